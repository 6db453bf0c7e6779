//! What a device is to know of itself and its server: asked of a running server, or given.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::device::{DeviceState, NewDeviceBody};
use api::product::Product;
use clap::Args;
use flashfmt::Chip;
use manifest::PublisherKeys;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sim::device::host_time_s;
use updater_io::pki::MAX_DEVICE_ID_BYTES;
use updater_io::vault::{Provisioning, ServerUrl};

use crate::client::{Client, Connection};
use crate::commands::options;
use crate::commands::target::Target;
use crate::commands::wifi::{Wifi, WifiOptions};
use crate::failure::Failure;
use crate::flash::vault;
use crate::layouts::NamedLayout;
use crate::publisher::Publisher;
use crate::ui::Ui;

/// Stands for a token that is not issued yet; twice as long as the server's are.
const TOKEN_PLACEHOLDER: &str = "0123456789012345678901234567890123456789012345678901234567890123";

/// Options of commands that make a vault.
#[derive(Debug, Args)]
pub(crate) struct IdentityOptions {
    /// The device's id, such as a serial number; the server makes one when there is none
    #[arg(long, value_name = "ID", value_parser = options::device)]
    device: Option<String>,

    /// The product that the device is one of; a device that the server knows already keeps its product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Take a server that is on loopback, such as `localhost`: to a board that is the board itself
    #[arg(long)]
    allow_loopback: bool,

    #[command(flatten)]
    wifi: WifiOptions,

    #[command(flatten)]
    given: GivenOptions,

    #[command(flatten)]
    connection: Connection,
}

/// What the server would say, for a factory that has no way to it.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Without a connection to the server (all of them, with --device and --product)"
)]
struct GivenOptions {
    /// Where devices reach the server, such as `https://updates.example.org:8443`
    #[arg(long, value_name = "URL", value_parser = server_url)]
    server_url: Option<ServerUrl>,

    /// The device's one-time enrollment token, as `pitstop device new` prints it
    #[arg(
        long,
        env = "PITSTOP_ENROLLMENT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        requires = "server_url"
    )]
    enrollment_token: Option<String>,

    /// The server's CA certificate (PEM), ca/ca.pem in its data directory
    #[arg(long, value_name = "FILE", requires = "server_url")]
    anchor: Option<PathBuf>,

    /// Whose releases the device accepts: a public key file (PEM), a key file, or [NAME=]HEX; may be given more than
    /// once
    #[arg(long = "publisher", value_name = "KEY", requires = "server_url")]
    publishers: Vec<String>,
}

/// What is known of a device before anything was changed at the server.
pub(crate) struct Draft {
    /// Its product.
    pub(crate) product: String,
    /// The product's chip, when the server said.
    pub(crate) chip: Option<Chip>,
    /// The product's layout, when the server said.
    pub(crate) layout: Option<NamedLayout>,
    /// `None`: the server is to make one.
    device_id: Option<String>,
    server: ServerUrl,
    anchors: Vec<CertificateDer<'static>>,
    publishers: PublisherKeys,
    wifi: Wifi,
    /// Whether the user says that a server on loopback is meant.
    allow_loopback: bool,
    token: TokenSource,
}

enum TokenSource {
    /// `--enrollment-token`.
    Given(String),
    /// A device to be made.
    NewDevice(Client),
    /// A device that is there: its token before is void when it gets another.
    KnownDevice(Client),
}

/// A device with everything that its vault holds.
pub(crate) struct Identity {
    /// Name of the device at the server.
    pub(crate) device_id: String,
    /// How it came by its token, for people.
    pub(crate) origin: &'static str,
    draft: Draft,
    token: String,
}

impl IdentityOptions {
    /// Gathers what is known, asking the server where it has to. Nothing is changed there yet.
    pub(crate) fn draft(self) -> Result<Draft, Failure> {
        let Self { device, product, allow_loopback, wifi, given, connection } = self;
        let wifi = wifi.wifi()?;
        let draft = match given.server_url.clone() {
            Some(server) => given.draft(server, device, product, wifi),
            None => ask(connection.client()?, device, product, wifi),
        };
        draft.map(|draft| Draft { allow_loopback, ..draft })
    }
}

impl GivenOptions {
    fn draft(
        self,
        server: ServerUrl,
        device: Option<String>,
        product: Option<String>,
        wifi: Wifi,
    ) -> Result<Draft, Failure> {
        let Self { enrollment_token, anchor, publishers, server_url: _ } = self;
        let missing = |option: &str| {
            Failure::usage(format!("with --server-url nothing is asked of a server, so {option} is needed"))
        };
        let token = enrollment_token
            .ok_or_else(|| missing("--enrollment-token (or PITSTOP_ENROLLMENT_TOKEN)"))?
            .trim()
            .to_owned();
        if publishers.is_empty() {
            return Err(missing("--publisher"));
        }
        Ok(Draft {
            product: product.ok_or_else(|| missing("--product"))?,
            chip: None,
            layout: None,
            device_id: Some(device.ok_or_else(|| missing("--device"))?),
            server,
            anchors: read_anchors(&anchor.ok_or_else(|| missing("--anchor"))?)?,
            publishers: publishers
                .iter()
                .map(|text| Publisher::read(text).map(|publisher| publisher.key))
                .collect::<Result<_, _>>()?,
            wifi,
            allow_loopback: false,
            token: TokenSource::Given(token),
        })
    }
}

/// What the server says of the device, its product, and itself.
fn ask(
    client: Client,
    device: Option<String>,
    product: Option<String>,
    wifi: Wifi,
) -> Result<Draft, Failure> {
    let known = match &device {
        Some(id) => match client.device(id) {
            Ok(known) => Some(known),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    if let Some(known) = known.as_ref().filter(|known| known.state == DeviceState::Revoked) {
        let id = &known.id;
        return Err(if known.suspended {
            Failure::new(format!("the device {id} is suspended"))
                .hint(format!("`pitstop device resume {id}` takes that back"))
        } else {
            Failure::new(format!("the device {id} is revoked"))
                .hint("take another id; a revoked one never comes back")
        });
    }
    let product = match (&known, product) {
        (Some(known), Some(asked)) if asked != known.product => {
            return Err(Failure::new(format!(
                "expected the device {} to be of product {asked}, the server has it as {}",
                known.id, known.product
            ))
            .hint("leave --product away, or take another id"));
        }
        (Some(known), Some(_) | None) => known.product.clone(),
        (None, Some(product)) => product,
        (None, None) => {
            let whose = device.map_or("a new device".to_owned(), |id| format!("the new device {id}"));
            return Err(Failure::usage(format!("the product of {whose} is not known"))
                .hint("give --product NAME; `pitstop product list` shows what there is"));
        }
    };
    let (product, info) = (client.product(&product)?, client.info()?);
    Ok(Draft {
        chip: Some(options::chip(&product.chip).map_err(|error| not_known(&product, &error))?),
        layout: Some(NamedLayout::parse(&product.layout.name, &product.layout.csv)?),
        device_id: device,
        server: server_url(&info.device_url).map_err(Failure::new)?,
        anchors: anchors(info.ca_pem.as_bytes(), "the server's CA certificate")?,
        publishers: publishers_of(&product)?,
        wifi,
        allow_loopback: false,
        token: if known.is_some() {
            TokenSource::KnownDevice(client)
        } else {
            TokenSource::NewDevice(client)
        },
        product: product.name,
    })
}

impl Draft {
    /// Whether a device could reach its server: refuses a board whose server is on loopback, and warns of what may be meant.
    pub(crate) fn check_reach(&self, target: &Target, ui: &Ui) -> Result<(), Failure> {
        if is_loopback(&self.server.host) && !self.allow_loopback {
            let found = format!("the server's address for devices is {}", self.server);
            match target {
                Target::Port(_) => {
                    return Err(Failure::new(format!(
                        "expected a server that a board can reach; {found}, which to a board is the board itself"
                    ))
                    .hint(
                        "start the server with an address of this machine's network, such as `pitstop serve --listen \
                         0.0.0.0:8443 --name 192.168.1.20`; --allow-loopback takes this one all the same",
                    ));
                }
                Target::Image(_) => ui.warning(&format!(
                    "{found}: nothing but an emulator on this machine reaches it (--allow-loopback says that it is meant)"
                )),
            }
        }
        if self.wifi.networks.is_empty() {
            ui.warning(
                "no Wi-Fi is given (--wifi SSID): a board then waits for it on its serial port (Improv), which a page such as \
                 https://www.improv-wifi.com/ sets up in a browser",
            );
        }
        Ok(())
    }

    /// Tries a vault of `size_bytes` with everything but what the server has yet to say, so that a mistake costs no
    /// device and no token there.
    pub(crate) fn try_vault(&self, size_bytes: u32) -> Result<(), Failure> {
        let longest_id = "0".repeat(MAX_DEVICE_ID_BYTES);
        let device_id = self.device_id.as_deref().unwrap_or(&longest_id);
        let token = match &self.token {
            TokenSource::Given(token) => token,
            TokenSource::NewDevice(_) | TokenSource::KnownDevice(_) => TOKEN_PLACEHOLDER,
        };
        vault::image(size_bytes, &self.provisioning(device_id, token)).map(drop).map_err(vault::failure)
    }

    /// Makes the device at the server, or issues a new token for one that is there.
    pub(crate) fn issue(self) -> Result<Identity, Failure> {
        let known_id = || self.device_id.clone().unwrap_or_default();
        let (device_id, token, origin) = match &self.token {
            TokenSource::Given(token) => (known_id(), token.clone(), "with the token given"),
            TokenSource::KnownDevice(client) => {
                let issued = client.issue_enrollment_token(&known_id())?;
                (issued.id, issued.enrollment_token, "with a new token; the one before is void")
            }
            TokenSource::NewDevice(client) => {
                let (id, product) = (self.device_id.clone(), self.product.clone());
                let device = NewDeviceBody { id, product, ..NewDeviceBody::default() };
                let issued = client.create_device(&device)?;
                (issued.device.id, issued.enrollment_token, "made at the server")
            }
        };
        Ok(Identity { device_id, origin, draft: self, token })
    }

    fn provisioning<'a>(&'a self, device_id: &'a str, token: &'a str) -> Provisioning<'a> {
        Provisioning {
            device_id,
            product: &self.product,
            server: &self.server,
            token: Some(token),
            anchors: &self.anchors,
            publishers: &self.publishers,
            wifi: &self.wifi.networks,
            country: self.wifi.country,
            time_floor_s: Some(host_time_s()),
        }
    }
}

impl Identity {
    /// The vault, `size_bytes` long.
    pub(crate) fn vault(&self, size_bytes: u32) -> Result<Vec<u8>, Failure> {
        let provisioning = self.draft.provisioning(&self.device_id, &self.token);
        vault::image(size_bytes, &provisioning).map_err(vault::failure)
    }

    /// Its product.
    pub(crate) fn product(&self) -> &str {
        &self.draft.product
    }

    /// Where its server is.
    pub(crate) fn server_url(&self) -> String {
        self.draft.server.to_string()
    }

    /// Names of the networks that it knows.
    pub(crate) fn networks(&self) -> Vec<String> {
        self.draft.wifi.networks.iter().map(|network| network.ssid.clone()).collect()
    }
}

/// Whether a host is this machine to whoever asks: a name or an address of loopback, or no address at all.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

fn server_url(text: &str) -> Result<ServerUrl, String> {
    ServerUrl::parse(text).map_err(|error| error.to_string())
}

fn read_anchors(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let name = format!("the trust anchor {}", path.display());
    let pem = std::fs::read(path).map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    anchors(&pem, &name)
}

fn anchors(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let none = |found: &str| {
        Failure::new(format!("expected a certificate in PEM in {name}, found {found}"))
            .hint("give ca/ca.pem of the server's data directory")
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(none("none")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(none(&error.to_string())),
    }
}

fn publishers_of(product: &Product) -> Result<PublisherKeys, Failure> {
    let keys = product.publisher_keys.iter().map(|known| {
        let point = hex::decode(&known.key).unwrap_or_default();
        manifest::PublisherKey::from_sec1(&point).map_err(|error| not_known(product, &error.to_string()))
    });
    keys.collect()
}

/// The server named something that this version cannot read.
fn not_known(product: &Product, error: &str) -> Failure {
    Failure::new(format!("what the server says of product {} cannot be used: {error}", product.name))
        .hint("is this pitstop of the same version as the server?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_board_itself_to_a_board() {
        for host in [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["updates.example.org", "192.168.1.20", "10.0.0.1", "fe80::1", "localhost.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
