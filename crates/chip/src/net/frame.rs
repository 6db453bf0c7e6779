//! What a frame from the chip is for, and frames that carry a UDP answer.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpPacket, ArpRepr, DHCP_SERVER_PORT, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::{DNS, HOST, HOST_MAC, MAX_FRAME_BYTES};

const DNS_PORT: u16 = 53;
/// RFC 1122 (3.2.1.7): the value of the "Assigned Numbers" of the day, 64 since RFC 1340.
const HOP_LIMIT: u8 = 64;

/// A frame from the chip that someone here answers.
pub(super) enum Incoming<'a> {
    /// ARP, ICMP, and TCP of a connection that exists.
    Stack,
    /// The first frame of a TCP connection, or a repetition of it.
    Syn(Syn),
    /// A message for the DHCP server.
    Dhcp(&'a [u8]),
    /// A message for the name server.
    Dns { asker: Endpoint, query: &'a [u8] },
}

/// Names a TCP connection, and its beginning.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Syn {
    pub(super) chip_address: Ipv4Address,
    pub(super) chip_port: u16,
    pub(super) host_port: u16,
    pub(super) sequence: TcpSeqNumber,
}

impl Syn {
    /// Whether both use the same addresses and ports.
    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        (self.chip_address, self.chip_port, self.host_port)
            == (other.chip_address, other.chip_port, other.host_port)
    }
}

/// One side of a UDP exchange.
pub(super) struct Endpoint {
    pub(super) mac: EthernetAddress,
    pub(super) address: Ipv4Address,
    pub(super) port: u16,
}

/// What `frame` is for; `None`: nobody answers it.
pub(super) fn classify(frame: &[u8]) -> Option<Incoming<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let for_us = ethernet.dst_addr() == HOST_MAC || ethernet.dst_addr().is_broadcast();
    if !for_us || frame.len() > MAX_FRAME_BYTES {
        return None;
    }
    match ethernet.ethertype() {
        EthernetProtocol::Arp => classify_arp(ethernet.payload()),
        EthernetProtocol::Ipv4 => classify_ip(ethernet.src_addr(), ethernet.payload()),
        EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_) => None,
    }
}

fn classify_arp(packet: &[u8]) -> Option<Incoming<'_>> {
    match ArpRepr::parse(&ArpPacket::new_checked(packet).ok()?).ok()? {
        ArpRepr::EthernetIpv4 { target_protocol_addr, .. } => {
            matches!(target_protocol_addr, HOST | DNS).then_some(Incoming::Stack)
        }
        _ => None,
    }
}

fn classify_ip(mac: EthernetAddress, packet: &[u8]) -> Option<Incoming<'_>> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
    let is_fragment = packet.more_frags() || packet.frag_offset() != 0;
    if is_fragment {
        return None;
    }
    match (ip.next_header, ip.dst_addr) {
        (IpProtocol::Icmp, HOST) if is_neighbour(ip.src_addr) => Some(Incoming::Stack),
        (IpProtocol::Tcp, HOST) if is_neighbour(ip.src_addr) => classify_tcp(&ip, packet.payload()),
        (IpProtocol::Udp, _) => classify_udp(mac, &ip, packet.payload()),
        _ => None,
    }
}

/// Whether an answer would find its way: the stack has no route out of 10.0.2.0/24.
fn is_neighbour(address: Ipv4Address) -> bool {
    let [a, b, c, last] = address.octets();
    [a, b, c] == [10, 0, 2] && !matches!(last, 0 | 255) && !matches!(address, HOST | DNS)
}

fn classify_tcp<'a>(ip: &Ipv4Repr, segment: &'a [u8]) -> Option<Incoming<'a>> {
    let packet = TcpPacket::new_checked(segment).ok()?;
    if !packet.syn() || packet.ack() {
        return Some(Incoming::Stack);
    }
    // Parsed in full, because a damaged frame must not open a connection on the host.
    let tcp =
        TcpRepr::parse(&packet, &ip.src_addr.into(), &ip.dst_addr.into(), &ChecksumCapabilities::default())
            .ok()?;
    Some(Incoming::Syn(Syn {
        chip_address: ip.src_addr,
        chip_port: tcp.src_port,
        host_port: tcp.dst_port,
        sequence: tcp.seq_number,
    }))
}

fn classify_udp<'a>(mac: EthernetAddress, ip: &Ipv4Repr, datagram: &'a [u8]) -> Option<Incoming<'a>> {
    let packet = UdpPacket::new_checked(datagram).ok()?;
    let udp =
        UdpRepr::parse(&packet, &ip.src_addr.into(), &ip.dst_addr.into(), &ChecksumCapabilities::default())
            .ok()?;
    match (ip.dst_addr, udp.dst_port) {
        (HOST | Ipv4Address::BROADCAST, DHCP_SERVER_PORT) => Some(Incoming::Dhcp(packet.payload())),
        (DNS, DNS_PORT) => {
            let asker = Endpoint { mac, address: ip.src_addr, port: udp.src_port };
            Some(Incoming::Dns { asker, query: packet.payload() })
        }
        _ => None,
    }
}

/// A frame from `address`:`port` of this side that carries `payload`, which must fit into one
/// ([`MAX_FRAME_BYTES`] less 42 bytes of headers).
pub(super) fn udp(address: Ipv4Address, port: u16, to: &Endpoint, payload: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let udp = UdpRepr { src_port: port, dst_port: to.port };
    let ip = Ipv4Repr {
        src_addr: address,
        dst_addr: to.address,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: HOP_LIMIT,
    };
    let ethernet = EthernetRepr { src_addr: HOST_MAC, dst_addr: to.mac, ethertype: EthernetProtocol::Ipv4 };

    let mut frame = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut ethernet_frame = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.emit(&mut ethernet_frame);
    let mut ip_packet = Ipv4Packet::new_unchecked(ethernet_frame.payload_mut());
    ip.emit(&mut ip_packet, &checksums);
    let mut udp_packet = UdpPacket::new_unchecked(ip_packet.payload_mut());
    udp.emit(
        &mut udp_packet,
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums,
    );
    frame
}
