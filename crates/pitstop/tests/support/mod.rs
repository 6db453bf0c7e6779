//! What the tests of the command line share: the command itself, images, and a real server in this process.
#![allow(dead_code, reason = "each test file uses its part")]

#[cfg(unix)]
pub(crate) mod pty;
#[cfg(unix)]
pub(crate) mod rom;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flashfmt::image::compose::{Composer, esp32c3_addr};
use flashfmt::{AppDescriptor, Chip, Layout};
use serde_json::Value;
use server::{Clock, Config, RunningServer};
use sim::net::{Link, SimNetwork};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use updater_io::platform::WifiCredentials;

/// RAM of an ESP32-S3 (ESP-IDF, `esp32s3/include/soc/soc.h`, `SOC_IRAM_LOW`).
const ESP32S3_RAM: u32 = 0x4037_8000;

/// `pitstop` without anything of this machine's environment that it would heed.
pub(crate) fn pitstop(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("pitstop").unwrap();
    command.current_dir(folder);
    for variable in pitstop_variables() {
        command.env_remove(variable);
    }
    command
}

/// What this machine's environment says to Pitstop.
pub(crate) fn pitstop_variables() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("PITSTOP_"))
}

/// An application with an app descriptor and `filling_bytes` of data.
pub(crate) fn image(chip: Chip, version: &str, filling_bytes: usize) -> Vec<u8> {
    image_of("lamp", chip, version, filling_bytes)
}

/// An updater for the ESP32-C3, as far as anybody looks at it here.
pub(crate) fn updater(filling_bytes: usize) -> Vec<u8> {
    image_of("pitstop-updater", Chip::Esp32C3, "0.1.0", filling_bytes)
}

/// A second-stage bootloader for the ESP32-C3: with the load addresses of the one that espflash brings.
pub(crate) fn bootloader() -> Vec<u8> {
    Composer::new(Chip::Esp32C3, 0x403C_BF1A)
        .segment(0x3FCD_5830, &[1; 64])
        .segment(0x403C_BF10, &[2; 64])
        .segment(0x403C_E710, &[3; 64])
        .build()
        .unwrap()
}

/// Its data is mapped from flash: ESP32-C3 and ESP32-S3 have the same window for it.
pub(crate) fn image_of(project: &str, chip: Chip, version: &str, filling_bytes: usize) -> Vec<u8> {
    let filling: Vec<u8> = (0..filling_bytes).map(|index| (index % 251) as u8).collect();
    let ram = if chip == Chip::Esp32S3 { ESP32S3_RAM } else { esp32c3_addr::IRAM };
    Composer::new(chip, ram)
        .segment_with_app_desc(esp32c3_addr::DROM + 0x20, &AppDescriptor::new(project, version), &filling)
        .segment(ram, &[4; 64])
        .build()
        .unwrap()
}

/// An image with segments in flash and in RAM, as a linker lays them out.
pub(crate) fn image_with_segments() -> Vec<u8> {
    Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
        .segment_with_app_desc(esp32c3_addr::DROM + 0x20, &AppDescriptor::new("lamp", "1.0.0"), &[1; 1000])
        .segment(esp32c3_addr::IRAM, &[2; 4096])
        .segment(esp32c3_addr::IROM + 0x1_0020, &[3; 2000])
        .build()
        .unwrap()
}

/// A server in this process, a folder to work in, and in it a key file.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) data: PathBuf,
    pub(crate) url: String,
    pub(crate) clock: Clock,
    running: Option<RunningServer>,
    runtime: Runtime,
}

impl Bench {
    /// Starts a server on free ports.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut config = Config::new(&data);
        config.device_addr.set_port(0);
        config.admin_addr.set_port(0);
        let clock = config.clock.clone();
        let runtime = Runtime::new().unwrap();
        let running = runtime.block_on(server::start(config)).unwrap();
        let bench = Self { folder, data, url: running.admin_url(), clock, running: Some(running), runtime };
        bench.command(&["keys", "new", "--name", "alice"]).assert().success();
        bench
    }

    /// Waits for something of the tests' own, beside the server.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Lets something of the tests' own run beside the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// A command that finds the server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = pitstop(self.folder.path());
        command.args(arguments).env("PITSTOP_URL", &self.url).env("PITSTOP_DATA", &self.data);
        command
    }

    /// What a command that succeeds prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    }

    /// What a command that succeeds prints.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.command(arguments).assert().success().get_output().stdout.clone()).unwrap()
    }

    /// What a command that fails with exit code 1 prints on standard error.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.command(arguments).assert().code(1).get_output().stderr.clone()).unwrap()
    }

    /// What a command that asks says where there is nobody to ask.
    pub(crate) fn question(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).assert().code(2).get_output().clone();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("there is no terminal to ask at: ") && told.contains("--yes "), "{told}");
        told
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Makes the product `lamp` with the folder's key and layout 4mb.
    pub(crate) fn make_lamp(&self) -> Value {
        self.json(&["product", "new", "lamp", "--chip", "esp32c3", "--key", "publisher.key"])
    }

    /// Publishes a file of the folder for `lamp`.
    pub(crate) fn publish(&self, file: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["release", "publish", file, "--product", "lamp", "--key", "publisher.key"];
        arguments.extend(more);
        self.json(&arguments)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.shutdown());
        }
    }
}

/// Starts a virtual device from a flash file of 4 MB, in reach of the network `workshop`, to its application.
pub(crate) fn start(path: &Path, passphrase: &str) -> sim::RunningApp {
    const FLASH_BYTES: u32 = 0x40_0000;

    let flash = sim::SimFlash::open(path, FLASH_BYTES).unwrap();
    let workshop = WifiCredentials { ssid: "workshop".into(), passphrase: passphrase.to_owned().into() };
    let network = SimNetwork::new(Link::Wifi(vec![workshop]), flash.power().clone());
    let layout = Layout::builtin("4mb").unwrap();
    let mut device = sim::VirtualDevice::from_flash(flash, network, Chip::Esp32C3, layout, 7);
    match Runtime::new().unwrap().block_on(device.power_on()).unwrap() {
        sim::End::Running(app) => app,
        other => panic!("{other:?}"),
    }
}

/// The layout 4mb with a file system of 64 KiB at its end.
pub(crate) fn with_storage() -> &'static str {
    "nvs,data,nvs,0x9000,0x6000\nphy_init,data,phy,0xf000,0x1000\nfactory,app,factory,0x10000,0xf0000\n\
     vault,data,nvs,0x100000,0x8000\njournal,0x40,0,0x108000,0x2000\nota_0,app,ota_0,0x110000,0x2e0000\n\
     storage,data,spiffs,0x3f0000,0x10000\n"
}
