//! ARP, ping, DHCP and DNS, by hand where the second stack cannot.

use std::time::Duration;

use smoltcp::socket::dhcpv4;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame,
    EthernetProtocol, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};

use super::frames::{arp, checksums, ethernet, ip, ping, udp};
use super::lab::{CHIP_MAC, Lab};
use crate::net::{CHIP, DNS, HOST, HOST_MAC, UserNetwork};

const NOBODY: Ipv4Address = Ipv4Address::UNSPECIFIED;

/// The answer to a frame of a chip that the network has seen before.
fn ask(net: &mut UserNetwork, frame: &[u8]) -> Option<Vec<u8>> {
    net.send(frame);
    net.poll(Duration::from_millis(1));
    let answer = net.receive();
    assert_eq!(net.receive(), None);
    assert!(!net.is_waiting());
    answer
}

/// Sender and receiver of an answer in UDP, and what it says.
fn udp_answer(frame: &[u8]) -> (EthernetAddress, Ipv4Address, Ipv4Address, u16, Vec<u8>) {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!(ethernet.src_addr(), HOST_MAC);
    let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    let ip = Ipv4Repr::parse(&packet, &checksums()).unwrap();
    let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
    let udp = UdpRepr::parse(&datagram, &ip.src_addr.into(), &ip.dst_addr.into(), &checksums()).unwrap();
    assert_ne!(datagram.checksum(), 0);
    (ethernet.dst_addr(), ip.src_addr, ip.dst_addr, udp.dst_port, datagram.payload().to_vec())
}

#[test]
fn arp_knows_the_host_and_the_name_server() {
    let mut net = UserNetwork::new().unwrap();
    for address in [HOST, DNS] {
        let answer = ask(&mut net, &arp(address)).unwrap();
        let frame = EthernetFrame::new_checked(&answer[..]).unwrap();
        let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
        assert_eq!(
            arp,
            ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: HOST_MAC,
                source_protocol_addr: address,
                target_hardware_addr: CHIP_MAC,
                target_protocol_addr: CHIP,
            }
        );
    }
    assert_eq!(net.stats().unanswered, 0);
    assert_eq!(ask(&mut net, &arp(Ipv4Address::new(10, 0, 2, 4))), None);
    assert_eq!(net.stats().unanswered, 1);
}

#[test]
fn the_host_answers_a_ping_and_nobody_else_does() {
    let mut net = UserNetwork::new().unwrap();
    ask(&mut net, &arp(HOST)).unwrap();
    let answer = ask(&mut net, &ping(HOST)).unwrap();
    let frame = EthernetFrame::new_checked(&answer[..]).unwrap();
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    let echo = Icmpv4Repr::parse(&icmp, &checksums()).unwrap();
    assert_eq!(echo, Icmpv4Repr::EchoReply { ident: 3, seq_no: 4, data: b"ping" });
    for address in [DNS, Ipv4Address::new(8, 8, 8, 8), Ipv4Address::BROADCAST] {
        assert_eq!(ask(&mut net, &ping(address)), None, "{address}");
    }
    // Neither a datagram to a port without a service, nor a protocol that is unknown, nor IPv6.
    assert_eq!(ask(&mut net, &udp((CHIP, 4000), (HOST, 9), b"x")), None);
    assert_eq!(ask(&mut net, &ip(CHIP, HOST, IpProtocol::Igmp, b"x")), None);
    assert_eq!(ask(&mut net, &ethernet(HOST_MAC, EthernetProtocol::Ipv6, &[0x60; 60])), None);
    assert_eq!(net.stats().unanswered, 6);
    assert_eq!((net.stats().frames_from_chip, net.stats().frames_to_chip), (8, 2));
}

#[test]
fn a_client_gets_its_address_from_dhcp_and_keeps_it() {
    let mut lab = Lab::without_address();
    let handle = lab.sockets.add(dhcpv4::Socket::new());
    let configured = |lab: &mut Lab| match lab.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
        Some(dhcpv4::Event::Configured(config)) => {
            Some((config.address, config.router, config.dns_servers.to_vec(), config.server.address))
        }
        Some(dhcpv4::Event::Deconfigured) | None => None,
    };
    let (address, router, dns, server) = lab.until("address", configured);
    assert_eq!(address.to_string(), "10.0.2.15/24");
    assert_eq!((router, dns, server), (Some(HOST), vec![DNS], HOST));
    lab.chip.update_ip_addrs(|addresses| addresses.push(address.into()).unwrap());
    let frames = lab.net.stats().frames_to_chip;
    // Half of the lease is over: the client renews by unicast.
    lab.now += Duration::from_secs(12 * 60 * 60 + 1);
    lab.until("renewal", |lab| (lab.net.stats().frames_to_chip >= frames + 2).then_some(()));
    lab.now += Duration::from_secs(12 * 60 * 60 - 60);
    for _ in 0..50 {
        lab.step();
        let event = lab.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll();
        assert_ne!(event, Some(dhcpv4::Event::Deconfigured));
    }
}

/// The type of the answer, the address it gives, and where it goes.
fn dhcp(change: impl FnOnce(&mut DhcpRepr<'_>)) -> Option<(DhcpMessageType, Ipv4Address, Ipv4Address)> {
    let mut asked = DhcpRepr {
        message_type: DhcpMessageType::Request,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: CHIP_MAC,
        client_ip: NOBODY,
        your_ip: NOBODY,
        server_ip: NOBODY,
        router: None,
        subnet_mask: None,
        relay_agent_ip: NOBODY,
        broadcast: false,
        requested_ip: None,
        client_identifier: Some(CHIP_MAC),
        server_identifier: None,
        parameter_request_list: Some(&[1, 3, 6]),
        dns_servers: None,
        max_size: Some(576),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    change(&mut asked);
    let mut message = vec![0; asked.buffer_len()];
    asked.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).unwrap();
    let mut net = UserNetwork::new().unwrap();
    let answer = ask(&mut net, &udp((asked.client_ip, 68), (Ipv4Address::BROADCAST, 67), &message));
    assert_eq!(net.stats().unanswered, u64::from(answer.is_none()));

    let (mac, from, to, port, payload) = udp_answer(&answer?);
    let packet = DhcpPacket::new_checked(&payload[..]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    assert_eq!((from, port, reply.server_identifier), (HOST, 68, Some(HOST)));
    assert_eq!((reply.transaction_id, reply.client_hardware_address), (0x1234_5678, CHIP_MAC));
    assert_eq!(mac, if to == CHIP { CHIP_MAC } else { EthernetAddress::BROADCAST });
    let lease = (reply.message_type != DhcpMessageType::Nak).then_some(86_400);
    assert_eq!(reply.lease_duration, lease);
    Some((reply.message_type, reply.your_ip, to))
}

#[test]
fn dhcp_gives_one_address_and_refuses_others() {
    let other = Ipv4Address::new(192, 168, 1, 7);
    let broadcast = Ipv4Address::BROADCAST;
    let of_type = |message_type| dhcp(move |asked| asked.message_type = message_type);

    assert_eq!(of_type(DhcpMessageType::Discover), Some((DhcpMessageType::Offer, CHIP, broadcast)));
    // A client selects, restarts, renews.
    let ack = Some((DhcpMessageType::Ack, CHIP, broadcast));
    assert_eq!(dhcp(|asked| (asked.requested_ip, asked.server_identifier) = (Some(CHIP), Some(HOST))), ack);
    assert_eq!(dhcp(|asked| asked.requested_ip = Some(CHIP)), ack);
    assert_eq!(dhcp(|asked| asked.client_ip = CHIP), Some((DhcpMessageType::Ack, CHIP, CHIP)));

    let nak = Some((DhcpMessageType::Nak, NOBODY, broadcast));
    assert_eq!(dhcp(|asked| asked.requested_ip = Some(other)), nak);
    assert_eq!(dhcp(|asked| asked.client_ip = other), nak);
    assert_eq!(dhcp(|_| ()), nak);

    assert_eq!(dhcp(|asked| (asked.requested_ip, asked.server_identifier) = (Some(CHIP), Some(other))), None);
    assert_eq!(of_type(DhcpMessageType::Decline), None);
    assert_eq!(of_type(DhcpMessageType::Release), None);
    assert_eq!(of_type(DhcpMessageType::Inform), None);
}

#[test]
fn no_name_is_known() {
    // Identity 0xabcd, recursion desired, one question, one additional record (EDNS), which the answer leaves out.
    let header = [0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
    let question = b"\x07example\x03org\x00\x00\x01\x00\x01";
    let edns = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let query = [&header[..], question, &edns].concat();
    let mut net = UserNetwork::new().unwrap();
    let answer = ask(&mut net, &udp((CHIP, 4321), (DNS, 53), &query)).unwrap();
    let (mac, from, to, port, reply) = udp_answer(&answer);
    assert_eq!((mac, from, to, port), (CHIP_MAC, DNS, CHIP, 4321));
    assert_eq!(reply[..12], [0xab, 0xcd, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&reply[12..], question);

    // Answers, other kinds of query, none or two questions, a name without an end, a pointer.
    let broken = |at: usize, value: u8| {
        let mut query = query.clone();
        query[at] = value;
        query
    };
    let bad =
        [broken(2, 0x81), broken(2, 0x29), broken(5, 0), broken(5, 2), broken(20, 255), broken(12, 0xc0)];
    for query in bad.iter().map(Vec::as_slice).chain([&query[..24], &query[..28], &query[..5]]) {
        assert_eq!(ask(&mut net, &udp((CHIP, 4321), (DNS, 53), query)), None, "{query:x?}");
    }
    assert_eq!(net.stats().unanswered, 9);
}

#[test]
fn frames_that_nobody_takes_do_not_pile_up() {
    let mut net = UserNetwork::new().unwrap();
    net.send(&arp(HOST));
    for _ in 0..1000 {
        net.send(&ping(HOST));
        net.poll(Duration::from_millis(1));
    }
    assert_eq!(std::iter::from_fn(|| net.receive()).count(), 64);
    assert!(ask(&mut net, &ping(HOST)).is_some());
}
