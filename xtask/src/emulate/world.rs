//! What surrounds the emulated chips: a real server on loopback, the command line, flash files.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use emulator::HOST_SEEN_FROM_INSIDE;
use serde_json::Value;
use tempfile::TempDir;

use super::flash::FlashFile;

/// Who signs every release.
const PUBLISHER_KEY: &str = "publisher.key";

/// Variables that `pitstop` heeds and that must not come from this machine's user.
const VARIABLES: [&str; 4] = ["PITSTOP_URL", "PITSTOP_TOKEN", "PITSTOP_DATA", "PITSTOP_LOG"];

/// A server with its data, and files for it, in a folder that goes away with this.
pub(super) struct World {
    folder: TempDir,
    pitstop: PathBuf,
    images: PathBuf,
    server_log: PathBuf,
    server: Option<Child>,
    /// Addresses of the listeners, the same after every start.
    devices: Address,
    admin: Address,
}

/// A port of 127.0.0.1; 0 before the first start, when the system chooses.
#[derive(Clone, Copy, Default)]
struct Address(u16);

impl World {
    /// Starts a server. `pitstop` is the program, `images` the folder of `cargo xtask firmware`.
    pub(super) fn start(pitstop: &Path, images: &Path, server_log: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        fs::write(server_log, "").with_context(|| format!("cannot write {}", server_log.display()))?;
        let mut world = Self {
            folder,
            pitstop: pitstop.to_owned(),
            images: images.to_owned(),
            server_log: server_log.to_owned(),
            server: None,
            devices: Address::default(),
            admin: Address::default(),
        };
        world.start_server()?;
        world.pitstop(&["keys", "new", "--out", PUBLISHER_KEY])?;
        Ok(world)
    }

    /// Starts the server again, at the addresses it had, with the data it had.
    pub(super) fn start_server(&mut self) -> anyhow::Result<()> {
        let data = self.data();
        let (server, places) = self.serve(&data, self.devices, self.admin)?;
        self.server = Some(server);
        self.devices = Address::of(&places, "device_url")?;
        self.admin = Address::of(&places, "admin_url")?;
        Ok(())
    }

    /// Starts the server unless it runs.
    pub(super) fn ensure_server(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() { self.start_server() } else { Ok(()) }
    }

    /// Ends the server at whatever it is doing. Its port then refuses connections.
    pub(super) fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            end(server);
        }
    }

    /// Where the device listener is, on 127.0.0.1.
    pub(super) fn device_port(&self) -> u16 {
        self.devices.0
    }

    /// The certificate of another server's CA, a PEM file.
    fn anchor_of_a_stranger(&self) -> anyhow::Result<PathBuf> {
        let data = self.folder.path().join("stranger");
        let (server, places) = self.serve(&data, Address::default(), Address::default())?;
        end(server);
        Ok(PathBuf::from(places["ca"].as_str().context("the server did not say where its CA is")?))
    }

    /// Makes a product for the ESP32-C3 with a built-in layout, and publishes a first release for it.
    pub(super) fn product(&self, name: &str, layout: &str, image: &str) -> anyhow::Result<()> {
        let arguments = ["product", "new", name, "--chip", "esp32c3", "--layout", layout];
        self.pitstop(&[&arguments[..], &["--key", PUBLISHER_KEY]].concat())?;
        self.publish(name, image)
    }

    /// Publishes an image of `cargo xtask firmware` for a product.
    pub(super) fn publish(&self, product: &str, image: &str) -> anyhow::Result<()> {
        let image = self.image(image);
        let arguments = ["release", "publish", &image, "--product", product, "--key", PUBLISHER_KEY];
        self.pitstop(&arguments).map(drop)
    }

    /// A flash file for a new device whose id is the product's name: updater, layout, vault; no application.
    pub(super) fn flash(&self, product: &str) -> anyhow::Result<FlashFile> {
        self.flash_of(product, product)
    }

    /// The same with another id.
    pub(super) fn flash_of(&self, product: &str, device: &str) -> anyhow::Result<FlashFile> {
        self.flash_with(device, &["--product", product, "--device", device])
    }

    /// A flash file with an application, whose vault trusts the CA of another server.
    pub(super) fn flash_with_wrong_anchor(&self, product: &str, image: &str) -> anyhow::Result<FlashFile> {
        let device = self.pitstop(&["device", "new", "--product", product, "--id", product])?;
        let token = device["enrollment_token"].as_str().context("no enrollment token")?;
        let url = format!("https://{HOST_SEEN_FROM_INSIDE}:{}", self.devices.0);
        let anchor = self.anchor_of_a_stranger()?.display().to_string();
        let app = self.image(image);
        let identity = ["--product", product, "--device", product, "--enrollment-token", token];
        let server = ["--server-url", &url, "--anchor", &anchor, "--publisher", PUBLISHER_KEY];
        self.flash_with(product, &[&identity[..], &server, &["--app", &app]].concat())
    }

    fn flash_with(&self, name: &str, arguments: &[&str]) -> anyhow::Result<FlashFile> {
        let path = self.folder.path().join(format!("{name}.bin"));
        let file = path.display().to_string();
        let updater = self.image("updater-esp32c3-qemu");
        self.pitstop(&[&["flash", "--image", &file, "--updater", &updater, "--yes"], arguments].concat())?;
        Ok(FlashFile::new(path))
    }

    /// What the server knows of a device, as `pitstop device show --json` prints it.
    pub(super) fn device(&self, id: &str) -> anyhow::Result<Value> {
        self.pitstop(&["device", "show", id])
    }

    /// Checks what a device ran at its last check-in.
    pub(super) fn expect_running(&self, id: &str, version: &str) -> anyhow::Result<()> {
        let device = self.device(id)?;
        ensure!(
            device["state"] == "enrolled" && device["running"]["version"] == version,
            "expected that the device is enrolled and runs {version}, the server has {device}"
        );
        Ok(())
    }

    /// Revokes a device.
    pub(super) fn revoke(&self, id: &str) -> anyhow::Result<()> {
        self.pitstop(&["device", "revoke", id, "--yes"]).map(drop)
    }

    /// Runs a command of `pitstop` against the server; returns what it prints with `--json`.
    fn pitstop(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        // What an error shows: a token may be among the rest.
        let name = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        let output = self
            .command()
            .args(arguments)
            .arg("--json")
            .env("PITSTOP_URL", format!("http://127.0.0.1:{}", self.admin.0))
            .env("PITSTOP_DATA", self.data())
            .stdin(Stdio::null())
            .output()
            .context("cannot start pitstop")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`pitstop {name}` failed: {}", stderr.trim());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`pitstop {name} --json` did not print JSON"))
    }

    /// Starts a server; returns it and the places it printed.
    fn serve(&self, data: &Path, devices: Address, admin: Address) -> anyhow::Result<(Child, Value)> {
        let log = fs::OpenOptions::new()
            .append(true)
            .open(&self.server_log)
            .with_context(|| format!("cannot write {}", self.server_log.display()))?;
        let mut server = self
            .command()
            .args(["serve", "--json", "--name", HOST_SEEN_FROM_INSIDE])
            .args(["--listen", &devices.to_string(), "--admin", &admin.to_string()])
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start `pitstop serve`")?;
        let mut output =
            BufReader::new(server.stdout.take().context("the server was started without a pipe")?);
        let mut line = String::new();
        let places = match output.read_line(&mut line) {
            Ok(_) => serde_json::from_str(&line).ok(),
            Err(_) => None,
        };
        let Some(places) = places else {
            end(server);
            bail!("`pitstop serve` did not start, see {}", self.server_log.display());
        };
        // Whatever else it prints is read, so that it never waits for a reader.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok((server, places))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.pitstop);
        command.current_dir(self.folder.path());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes the images away from the server, which keeps running.
    pub(super) fn hide_artifacts(&self) -> anyhow::Result<()> {
        fs::rename(self.artifacts(), self.hidden_artifacts())
            .context("the server keeps its artifacts elsewhere")
    }

    /// Gives them back.
    pub(super) fn show_artifacts(&self) -> anyhow::Result<()> {
        let (artifacts, hidden) = (self.artifacts(), self.hidden_artifacts());
        // The server may have made it anew, with nothing in it.
        let _ = fs::remove_dir_all(&artifacts);
        fs::rename(hidden, artifacts).context("the hidden artifacts are gone")
    }

    fn artifacts(&self) -> PathBuf {
        self.data().join("artifacts")
    }

    fn hidden_artifacts(&self) -> PathBuf {
        self.folder.path().join("hidden-artifacts")
    }

    /// The content of an image of `cargo xtask firmware`.
    pub(super) fn image_bytes(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let image = self.image(name);
        fs::read(&image).with_context(|| format!("cannot read {image}"))
    }

    fn image(&self, name: &str) -> String {
        self.images.join(format!("{name}.bin")).display().to_string()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_server();
    }
}

impl Address {
    /// The port of a URL that `pitstop serve` printed.
    fn of(places: &Value, field: &str) -> anyhow::Result<Self> {
        let url = places[field].as_str().unwrap_or_default();
        let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        port.map(Self).with_context(|| format!("no port in {field} of {places}"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "127.0.0.1:{}", self.0)
    }
}

fn end(mut server: Child) {
    // Fails only when it ended by itself.
    let _ = server.kill();
    let _ = server.wait();
}
