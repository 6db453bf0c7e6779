//! A DHCP server with one lease (RFC 2131).

use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Address,
};

use super::frame::{self, Endpoint};
use super::{CHIP, DNS, HOST};

/// A day, as the user-mode network of QEMU gives.
const LEASE_S: u32 = 24 * 60 * 60;
const MASK: Ipv4Address = Ipv4Address::new(255, 255, 255, 0);

/// The frame that answers a DHCP message; `None`: the message is malformed or wants no answer.
pub(super) fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let asked = DhcpRepr::parse(&packet).ok()?;
    let reply = reply(&asked)?;
    let mut payload = vec![0; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(&mut payload[..])).ok()?;
    Some(frame::udp(HOST, DHCP_SERVER_PORT, &reply_to(&reply), &payload))
}

fn reply(asked: &DhcpRepr<'_>) -> Option<DhcpRepr<'static>> {
    match asked.message_type {
        DhcpMessageType::Discover => Some(lease(asked, DhcpMessageType::Offer)),
        DhcpMessageType::Request => request(asked),
        // There is one lease and one chip: what it gives back or complains about, it gets again.
        DhcpMessageType::Decline | DhcpMessageType::Release => None,
        // A chip with an address of its own needs nothing else from here.
        DhcpMessageType::Inform => None,
        DhcpMessageType::Offer
        | DhcpMessageType::Ack
        | DhcpMessageType::Nak
        | DhcpMessageType::Unknown(_) => None,
    }
}

/// RFC 2131 (4.3.2): a client that selects or restarts names the address in an option, one that renews in `ciaddr`.
fn request(asked: &DhcpRepr<'_>) -> Option<DhcpRepr<'static>> {
    if asked.server_identifier.is_some_and(|server| server != HOST) {
        return None;
    }
    let wanted = asked.requested_ip.unwrap_or(asked.client_ip);
    Some(if wanted == CHIP { lease(asked, DhcpMessageType::Ack) } else { nak(asked) })
}

fn lease(asked: &DhcpRepr<'_>, message_type: DhcpMessageType) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type,
        client_ip: asked.client_ip,
        your_ip: CHIP,
        router: Some(HOST),
        subnet_mask: Some(MASK),
        dns_servers: Some([DNS].into_iter().collect()),
        lease_duration: Some(LEASE_S),
        ..nak(asked)
    }
}

fn nak(asked: &DhcpRepr<'_>) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type: DhcpMessageType::Nak,
        transaction_id: asked.transaction_id,
        secs: 0,
        client_hardware_address: asked.client_hardware_address,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: Ipv4Address::UNSPECIFIED,
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: asked.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(HOST),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

/// RFC 2131 (4.1): a client that has an address gets the answer there. For the others a broadcast is allowed in place
/// of a unicast to an address that the chip does not have yet.
fn reply_to(reply: &DhcpRepr<'_>) -> Endpoint {
    if reply.client_ip == CHIP {
        Endpoint { mac: reply.client_hardware_address, address: CHIP, port: DHCP_CLIENT_PORT }
    } else {
        Endpoint { mac: EthernetAddress::BROADCAST, address: Ipv4Address::BROADCAST, port: DHCP_CLIENT_PORT }
    }
}
