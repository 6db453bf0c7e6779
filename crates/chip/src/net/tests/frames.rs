//! Frames of the chip, made by hand.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet,
    Icmpv4Repr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    UdpPacket, UdpRepr,
};

use super::lab::CHIP_MAC;
use crate::net::{CHIP, HOST, HOST_MAC};

pub(super) fn checksums() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

pub(super) fn ethernet(to: EthernetAddress, ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_dst_addr(to);
    frame.set_src_addr(CHIP_MAC);
    frame.set_ethertype(ethertype);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

pub(super) fn ip(from: Ipv4Address, to: Ipv4Address, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let ip =
        Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: payload.len(), hop_limit: 64 };
    let mut bytes = vec![0; ip.buffer_len() + payload.len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &checksums());
    packet.payload_mut().copy_from_slice(payload);
    ethernet(
        if to.is_broadcast() { EthernetAddress::BROADCAST } else { HOST_MAC },
        EthernetProtocol::Ipv4,
        &bytes,
    )
}

pub(super) fn udp(from: (Ipv4Address, u16), to: (Ipv4Address, u16), payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from.1, dst_port: to.1 };
    let mut bytes = vec![0; udp.header_len() + payload.len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &from.0.into(),
        &to.0.into(),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums(),
    );
    ip(from.0, to.0, IpProtocol::Udp, &bytes)
}

pub(super) fn arp(target: Ipv4Address) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: CHIP_MAC,
        source_protocol_addr: CHIP,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut bytes = vec![0; arp.buffer_len()];
    arp.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    ethernet(EthernetAddress::BROADCAST, EthernetProtocol::Arp, &bytes)
}

pub(super) fn ping(to: Ipv4Address) -> Vec<u8> {
    let echo = Icmpv4Repr::EchoRequest { ident: 3, seq_no: 4, data: b"ping" };
    let mut bytes = vec![0; echo.buffer_len()];
    echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &checksums());
    ip(CHIP, to, IpProtocol::Icmp, &bytes)
}

/// The first segment of a connection from port 50000 of the chip.
pub(super) fn syn_to(port: u16) -> TcpRepr<'static> {
    TcpRepr {
        src_port: 50_000,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1000),
        ack_number: None,
        window_len: 4096,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

pub(super) fn segment(tcp: &TcpRepr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; tcp.buffer_len()];
    tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[..]), &CHIP.into(), &HOST.into(), &checksums());
    ip(CHIP, HOST, IpProtocol::Tcp, &bytes)
}
