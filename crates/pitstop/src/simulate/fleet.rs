//! The devices of a simulation: made through the API, enrolled over EST as real ones, kept in a directory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::device::NewToken;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use embedded_io_adapters::tokio_1::FromTokio;
use rand::rngs::OsRng;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use updater_io::est::{EstError, simpleenroll};
use updater_io::http::HttpClient;
use updater_io::pki::DeviceKey;

use super::device::{LightDevice, Memory};
use super::pit_stop::Target;
use super::tls::Tls;
use crate::failure::Failure;

/// Enrollments at the same time.
const ENROLLING: usize = 32;

/// A directory of devices that enrolled with one server for one product.
pub(crate) struct StateDir {
    dir: PathBuf,
}

/// Whom the devices of a directory belong to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    product: String,
    /// SHA-256 of the CA's certificate.
    ca: String,
}

/// A line of the file of identities.
#[derive(Serialize, Deserialize)]
struct Identity {
    id: String,
    /// PKCS#8 in base64.
    key: String,
    /// DER in base64.
    certificate: String,
}

impl StateDir {
    /// Opens a directory, or makes it for the devices of this product and CA.
    pub(crate) fn open(dir: &Path, product: &str, ca: &CertificateDer<'_>) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|error| cannot("make", dir, &error))?;
        let state = Self { dir: dir.to_owned() };
        let path = state.dir.join("fleet.json");
        let owner = Owner { product: product.to_owned(), ca: hex::encode(Sha256::digest(ca)) };
        match std::fs::read(&path) {
            Ok(bytes) => {
                let found: Owner =
                    serde_json::from_slice(&bytes).map_err(|error| cannot("read", &path, &error))?;
                if found != owner {
                    let message = format!(
                        "expected devices of product {product} and of this server in {}, found those of product {} \
                         and CA {}",
                        dir.display(),
                        found.product,
                        crate::ui::short_digest(&found.ca)
                    );
                    return Err(
                        Failure::new(message).hint("take another --state DIR for another server or product")
                    );
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = serde_json::to_vec(&owner).map_err(|error| cannot("write", &path, &error))?;
                std::fs::write(&path, text).map_err(|error| cannot("write", &path, &error))?;
            }
            Err(error) => return Err(cannot("read", &path, &error)),
        }
        Ok(state)
    }

    /// The first `count` devices that are there.
    pub(crate) fn load(&self, count: usize, tls: &Tls) -> Result<Vec<LightDevice>, Failure> {
        let mut memories = self.memories()?;
        let path = self.identities();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let mut devices = Vec::new();
        for line in BufReader::new(file).lines().take(count) {
            let line = line.map_err(|error| cannot("read", &path, &error))?;
            // A line that a killed run did not finish is the last one, and its device is made anew.
            let Ok(identity) = serde_json::from_str::<Identity>(&line) else { break };
            let memory = memories.remove(&identity.id).unwrap_or_default();
            devices.push(identity.device(memory, tls).map_err(|error| cannot("read", &path, &error))?);
        }
        Ok(devices)
    }

    /// Keeps what devices remember, for the next run.
    pub(crate) fn save(&self, devices: &[LightDevice]) -> Result<(), Failure> {
        let mut memories = self.memories()?;
        memories.extend(devices.iter().map(|device| (device.id.clone(), device.memory.clone())));
        let (path, new) = (self.dir.join("memories.json"), self.dir.join("memories.json.new"));
        let text = serde_json::to_vec(&memories).map_err(|error| cannot("write", &path, &error))?;
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| cannot("write", &path, &error))
    }

    /// Enrolls devices and keeps their keys and certificates; `each` is called for each of them.
    pub(crate) async fn enroll(
        &self,
        issued: Vec<NewToken>,
        tls: &Tls,
        target: &Target,
        mut each: impl FnMut(),
    ) -> Result<Vec<LightDevice>, Failure> {
        let path = self.identities();
        let mut file = private_file(&path).map_err(|error| cannot("write", &path, &error))?;
        let connector = TlsConnector::from(tls.anonymous().map_err(Failure::new)?);
        let target = Arc::new(target.clone());
        let mut waiting = issued.into_iter();
        let mut enrolling = JoinSet::new();
        let mut devices = Vec::new();
        loop {
            while enrolling.len() < ENROLLING
                && let Some(issued) = waiting.next()
            {
                enrolling.spawn(enroll(issued, connector.clone(), target.clone()));
            }
            let Some(enrolled) = enrolling.join_next().await else { break };
            let identity =
                enrolled.map_err(|error| Failure::new(format!("an enrollment ended: {error}")))??;
            let mut line = serde_json::to_vec(&identity).map_err(|error| cannot("write", &path, &error))?;
            line.push(b'\n');
            file.write_all(&line).map_err(|error| cannot("write", &path, &error))?;
            let device = identity.device(Memory::default(), tls);
            devices.push(
                device.map_err(|error| Failure::new(format!("a certificate cannot be used: {error}")))?,
            );
            each();
        }
        Ok(devices)
    }

    fn identities(&self) -> PathBuf {
        self.dir.join("devices.jsonl")
    }

    fn memories(&self) -> Result<HashMap<String, Memory>, Failure> {
        let path = self.dir.join("memories.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| cannot("read", &path, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashMap::new()),
            Err(error) => Err(cannot("read", &path, &error)),
        }
    }
}

impl Identity {
    fn device(self, memory: Memory, tls: &Tls) -> Result<LightDevice, String> {
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
        let (key, certificate) = (bytes(&self.key)?, bytes(&self.certificate)?);
        let tls = tls.device(CertificateDer::from(certificate), PrivatePkcs8KeyDer::from(key).into())?;
        Ok(LightDevice { id: self.id, tls, memory })
    }
}

/// One enrollment, by the updater's own client (RFC 7030).
async fn enroll(issued: NewToken, connector: TlsConnector, target: Arc<Target>) -> Result<Identity, Failure> {
    let NewToken { id, enrollment_token } = issued;
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{id} cannot enroll: {error}"));
    let tcp = TcpStream::connect(target.addr).await.map_err(|error| failed(&error))?;
    let stream = connector.connect(target.name.clone(), tcp).await.map_err(|error| failed(&error))?;
    let key = DeviceKey::generate(&mut OsRng).map_err(|error| failed(&error))?;
    let mut http = HttpClient::new(FromTokio::new(stream));
    let chain = simpleenroll(&mut http, &target.host, &key, &id, &enrollment_token).await;
    let chain = chain.map_err(|error| match error {
        EstError::Pending { .. } => failed(&"it waits for an approval").hint(format!(
            "approve it with `pitstop device approve {id}`, or simulate a product that asks for none"
        )),
        other => failed(&other),
    })?;
    let leaf = chain.certificates.first().ok_or_else(|| failed(&"there is no certificate"))?;
    Ok(Identity {
        key: BASE64_STANDARD.encode(&*key.to_pkcs8()),
        certificate: BASE64_STANDARD.encode(leaf),
        id,
    })
}

/// A file to append to, which holds keys.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn cannot(action: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("could not {action} {}: {error}", path.display()))
}
