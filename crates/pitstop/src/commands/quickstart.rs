//! `pitstop quickstart`: from nothing to a board that runs a release, by the commands that it stands for. Each of them is run as
//! a person would, and shown.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use flashfmt::Chip;
use serde::Serialize;
use serde_json::Value;
use server::{Config, RunningServer};
use tokio::runtime::Runtime;

use crate::commands::options;
use crate::commands::serve;
use crate::failure::Failure;
use crate::flash::serial::SerialChip;
use crate::flash::serial_options::SerialOptions;
use crate::ui::hints::word;
use crate::ui::{Page, Tone, Ui, paint, size};

const EXAMPLES: &str = "\
Examples:
  pitstop quickstart --port /dev/ttyUSB0 --app app.bin --wifi workshop
  pitstop quickstart lamp --chip esp32c3 --image lamp.bin --app app.bin
  pitstop quickstart lamp --chip esp32c3 --address 192.168.1.20

Makes a publisher key, serves on this machine's address in its network, makes a
product, publishes the application, flashes the board, and shows each step as
the command it stands for. What is there already is kept: give it again after
whatever went wrong, or with another --device for the next board. Then it
serves until Ctrl-C.";

/// Where a server listens for people that was told nothing else, and keeps its data.
const DEFAULT_ADMIN: &str = "127.0.0.1:8080";
const DEFAULT_DATA: &str = "pitstop-data";

/// An address of nobody (RFC 5737), by which the system tells which of its own it would use. Nothing is sent to it.
const SOMEWHERE: &str = "192.0.2.1:9";

/// A server on this machine answers at once, or is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Options of `quickstart`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Quickstart {
    /// Name of the product
    #[arg(value_name = "PRODUCT", default_value = "lamp", value_parser = options::product)]
    product: String,

    /// The serial port that the board is on; its chip and the size of its flash are asked of it
    #[arg(long, value_name = "PORT", help_heading = "Board")]
    port: Option<String>,

    /// A flash file in place of a board, for an emulator
    #[arg(long, value_name = "FILE", conflicts_with = "port", help_heading = "Board")]
    image: Option<PathBuf>,

    #[command(flatten)]
    serial: SerialOptions,

    /// The chip, where there is no board to ask and no product yet, such as esp32c3
    #[arg(long, value_name = "CHIP", value_parser = options::chip, help_heading = "Board")]
    chip: Option<Chip>,

    /// The flash layout [default: the built-in one for the size of the board's flash, or 4mb]
    #[arg(long, value_name = "LAYOUT", help_heading = "Board")]
    layout: Option<String>,

    /// Id of the device [default: PRODUCT-1]
    #[arg(long, value_name = "ID", value_parser = options::device, help_heading = "Board")]
    device: Option<String>,

    /// The updater's image; without it, it is built in this repository
    #[arg(long, value_name = "FILE", help_heading = "Board")]
    updater: Option<PathBuf>,

    /// Do not ask before data of the board is lost, or a flash file is overwritten
    #[arg(long, help_heading = "Board")]
    yes: bool,

    /// The application to publish
    #[arg(long, value_name = "FILE", help_heading = "Application")]
    app: Option<PathBuf>,

    /// The publisher's key file, made if it is not there
    #[arg(long, value_name = "FILE", default_value = "publisher.key", help_heading = "Application")]
    key: PathBuf,

    /// A network that the device joins, best first
    #[arg(long = "wifi", value_name = "SSID", help_heading = "Wi-Fi")]
    networks: Vec<String>,

    /// A file with the passphrases, as for `pitstop flash`; without it, you are asked
    #[arg(long = "wifi-passphrase-file", value_name = "FILE", requires = "networks", help_heading = "Wi-Fi")]
    passphrase_file: Option<PathBuf>,

    /// This machine's address for boards [default: the one by which it reaches its network]
    #[arg(long, value_name = "IP", help_heading = "Server")]
    address: Option<IpAddr>,

    /// The port for devices
    #[arg(long, value_name = "PORT", default_value_t = 8443, help_heading = "Server")]
    device_port: u16,

    /// The admin listener: a server that answers there already is taken
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADMIN, help_heading = "Server")]
    admin: SocketAddr,

    /// Where the server keeps everything
    #[arg(
        long,
        env = "PITSTOP_DATA",
        hide_env_values = true,
        value_name = "DIR",
        default_value = DEFAULT_DATA,
        help_heading = "Server"
    )]
    data: PathBuf,

    /// Take an --address on loopback, which to a board is the board itself
    #[arg(long, help_heading = "Server")]
    allow_loopback: bool,

    /// End when all is done, instead of serving on
    #[arg(long, help_heading = "Server")]
    once: bool,
}

/// One step, for people and scripts.
#[derive(Debug, Serialize)]
struct Step {
    /// As a shell takes it.
    command: String,
    /// Nothing was done, because it is there already.
    kept: bool,
}

/// What was done.
#[derive(Serialize)]
struct Report {
    product: String,
    device: String,
    admin_url: String,
    steps: Vec<Step>,
    /// What the user can do next: commands.
    next: Vec<String>,
}

/// A board: its chip and the built-in layout for its flash.
struct Board {
    chip: Chip,
    layout: &'static str,
}

impl Quickstart {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        for path in [&self.app, &self.updater].into_iter().flatten() {
            crate::inspect::ImageFile::read(path)?;
        }
        let board = self.port.as_deref().map(|port| self.board(port, ui)).transpose()?;
        let runtime = Runtime::new()
            .map_err(|error| Failure::new(format!("the server's threads cannot be started: {error}")))?;
        let mut steps = Steps { ui, data: &self.data, admin: self.admin, done: Vec::new() };
        let mut running = self.serve(&runtime, &mut steps)?;
        let done = self.steps(board.as_ref(), &mut steps);
        let report = done.map(|next| Report {
            product: self.product.clone(),
            device: self.device(),
            admin_url: format!("http://{}", self.admin),
            steps: steps.done,
            next,
        });
        let shown = report.and_then(|report| ui.result(&report, || report.page()));
        if let Some(running) = &mut running
            && shown.is_ok()
            && !self.once
        {
            ui.line("\nServing; Ctrl-C ends it.")?;
            runtime.block_on(async {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    () = running.wait() => {}
                }
            });
        }
        if let Some(running) = running {
            runtime.block_on(running.shutdown());
        }
        shown
    }

    fn device(&self) -> String {
        self.device.clone().unwrap_or_else(|| format!("{}-1", self.product))
    }

    /// What is on the port, left as it was.
    fn board(&self, port: &str, ui: &Ui) -> Result<Board, Failure> {
        let mut found = SerialChip::connect(port, &self.serial, ui)?;
        let (name, flash_bytes) = (found.name(), found.flash_bytes()?);
        found.finish()?;
        let chip = options::chip(&name).map_err(Failure::new)?;
        if let Some(asked) = self.chip.filter(|asked| *asked != chip) {
            return Err(Failure::new(format!("expected {asked} on {port}, found {chip}"))
                .hint("leave --chip away: the board is asked for it"));
        }
        let layout = layout_for(flash_bytes.unwrap_or(4 << 20)).ok_or_else(|| {
            let found = size(flash_bytes.unwrap_or(0).into());
            Failure::new(format!("expected a flash of 4 MiB or more on {port}, found {found}"))
                .hint("give a layout of your own with --layout; `pitstop layout show 4mb` is a beginning")
        });
        match (layout, &self.layout) {
            (Ok(layout), _) => Ok(Board { chip, layout }),
            // The user's own is asked for, whatever the flash.
            (Err(_), Some(_)) => Ok(Board { chip, layout: "4mb" }),
            (Err(failure), None) => Err(failure),
        }
    }

    /// A server of this process, unless one answers.
    fn serve(&self, runtime: &Runtime, steps: &mut Steps<'_>) -> Result<Option<RunningServer>, Failure> {
        let answers = TcpStream::connect_timeout(&self.admin, ANSWERS_WITHIN).is_ok();
        let address = match self.address {
            Some(address) => address,
            None if answers => self.admin.ip(),
            None => address_in_the_network()?,
        };
        let listen = SocketAddr::new(address, self.device_port);
        let mut line = vec![
            "serve".to_owned(),
            "--listen".into(),
            listen.to_string(),
            "--name".into(),
            address.to_string(),
        ];
        if self.admin.to_string() != DEFAULT_ADMIN {
            line.extend(["--admin".to_owned(), self.admin.to_string()]);
        }
        if self.data.as_os_str() != DEFAULT_DATA {
            line.extend(["--data".to_owned(), self.data.display().to_string()]);
        }
        if answers {
            steps.kept(&line, &format!("a server answers at {}", self.admin))?;
            return Ok(None);
        }
        steps.shown(&line)?;
        let mut config = Config::new(&self.data);
        config.device_addr = listen;
        config.admin_addr = self.admin;
        config.server_names = vec![address.to_string()];
        runtime.block_on(server::start(config)).map(Some).map_err(serve::failure)
    }

    /// Everything but the server; what is left to do.
    fn steps(&self, board: Option<&Board>, steps: &mut Steps<'_>) -> Result<Vec<String>, Failure> {
        let (product, device) = (self.product.as_str(), self.device());
        let key = self.key.display().to_string();
        let new_key = ["keys", "new", "--out", &key].map(str::to_owned);
        if self.key.exists() {
            steps.kept(&new_key, &format!("{key} is there"))?;
        } else {
            steps.run(&new_key)?;
        }

        let products = steps.ask(&["product", "list", "--limit", "1000"])?;
        let is_named = |item: &&Value, field: &str, name: &str| item[field] == name;
        let known = items(&products).find(|item| is_named(item, "name", product));
        let chip = match (board, known) {
            (Some(board), _) => board.chip.name().to_owned(),
            (None, Some(known)) => known["chip"].as_str().unwrap_or_default().to_owned(),
            (None, None) => self.chip.map(|chip| chip.name().to_owned()).ok_or_else(|| {
                Failure::usage("the chip is not known: expected --port PORT to ask the board, or --chip CHIP")
            })?,
        };
        let layout = self.layout.as_deref().or(board.map(|board| board.layout)).unwrap_or("4mb");
        let new_product = ["product", "new", product, "--chip", &chip, "--layout", layout, "--key", &key]
            .map(str::to_owned);
        match known {
            None => steps.run(&steps.at_server(&new_product))?,
            Some(known) if known["chip"] == chip.as_str() => {
                steps.kept(&steps.at_server(&new_product), &format!("the product {product} is there"))?;
            }
            Some(known) => {
                let of_product = known["chip"].as_str().unwrap_or_default();
                return Err(Failure::new(format!(
                    "the product {product} is for {of_product}, the board is an {chip}"
                ))
                .hint("name another product: pitstop quickstart NAME"));
            }
        }

        let mut next = Vec::new();
        let publish =
            |app: &str| ["release", "publish", app, "--product", product, "--key", &key].map(str::to_owned);
        match &self.app {
            Some(app) => steps.run(&steps.at_server(&publish(&app.display().to_string())))?,
            None => next.push(shell(&steps.at_server(&publish("app.bin")))),
        }

        let flash = self.flash(&device);
        let devices = steps.ask(&["device", "list", "--product", product, "--limit", "1000"])?;
        let enrolled =
            items(&devices).any(|item| is_named(&item, "id", &device) && item["state"] == "enrolled");
        match flash {
            Some(flash) if enrolled => {
                steps.kept(&steps.at_server(&flash), &format!("{device} has enrolled"))?;
            }
            Some(flash) => steps.run(&steps.at_server(&flash))?,
            None => next
                .push(format!("pitstop flash --port PORT --product {product} --device {device} --wifi SSID")),
        }
        next.push(shell(&steps.at_server(&["device", "show", &device].map(str::to_owned))));
        Ok(next)
    }

    /// `flash` with its options, when there is something to write to.
    fn flash(&self, device: &str) -> Option<Vec<String>> {
        let mut line = vec!["flash".to_owned()];
        let mut add = |option: &str, value: String| line.extend([option.to_owned(), value]);
        match (&self.port, &self.image) {
            (Some(port), _) => add("--port", port.clone()),
            (None, Some(image)) => add("--image", image.display().to_string()),
            (None, None) => return None,
        }
        add("--product", self.product.clone());
        add("--device", device.to_owned());
        if let Some(layout) = &self.layout {
            add("--layout", layout.clone());
        }
        if let Some(updater) = &self.updater {
            add("--updater", updater.display().to_string());
        }
        for ssid in &self.networks {
            add("--wifi", ssid.clone());
        }
        if let Some(path) = &self.passphrase_file {
            add("--wifi-passphrase-file", path.display().to_string());
        }
        line.extend(self.serial.arguments());
        for (flag, is_given) in [("--allow-loopback", self.allow_loopback), ("--yes", self.yes)] {
            line.extend(is_given.then(|| flag.to_owned()));
        }
        Some(line)
    }
}

/// Runs steps, and keeps what it ran.
struct Steps<'a> {
    ui: &'a Ui,
    data: &'a PathBuf,
    admin: SocketAddr,
    done: Vec<Step>,
}

impl Steps<'_> {
    /// A command with the options by which it finds the server.
    fn at_server(&self, line: &[String]) -> Vec<String> {
        let mut line = line.to_vec();
        if self.admin.to_string() != DEFAULT_ADMIN {
            line.extend(["--url".to_owned(), format!("http://{}", self.admin)]);
        }
        if self.data.as_os_str() != DEFAULT_DATA {
            line.extend(["--data".to_owned(), self.data.display().to_string()]);
        }
        line
    }

    fn shown(&mut self, line: &[String]) -> Result<(), Failure> {
        let command = shell(line);
        self.ui.line(format_args!("\n{} {}", paint(Tone::Dim, "$"), paint(Tone::Command, &command)))?;
        self.done.push(Step { command, kept: false });
        Ok(())
    }

    fn kept(&mut self, line: &[String], why: &str) -> Result<(), Failure> {
        let command = shell(line);
        self.ui.line(format_args!(
            "\n{} {}",
            paint(Tone::Dim, "#"),
            paint(Tone::Dim, &format!("{command}   ({why})"))
        ))?;
        self.done.push(Step { command, kept: true });
        Ok(())
    }

    /// Runs a command of this program as the user would.
    fn run(&mut self, line: &[String]) -> Result<(), Failure> {
        self.shown(line)?;
        let stdout = if self.ui.is_json() { Stdio::null() } else { Stdio::inherit() };
        let status = this_program(line)?.stdout(stdout).status().map_err(not_run)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{}` failed, as told above", shell(line)))
            .hint("when that is mended, give the same `pitstop quickstart` again: what is done is kept"))
    }

    /// What a command of this program says as JSON.
    fn ask(&self, line: &[&str]) -> Result<Value, Failure> {
        let mut line = self.at_server(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        line.push("--json".to_owned());
        let output = this_program(&line)?.stderr(Stdio::inherit()).output().map_err(not_run)?;
        let answer = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success());
        answer.ok_or_else(|| {
            Failure::new(format!("`{}` failed, as told above", shell(&line)))
                .hint("is it another server that answers there? --admin and --data choose one")
        })
    }
}

/// This program with a command. Which server it talks to is said by options alone.
fn this_program(line: &[String]) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(not_run)?;
    let mut command = Command::new(program);
    command.args(line);
    for variable in ["PITSTOP_URL", "PITSTOP_TOKEN", "PITSTOP_DATA"] {
        command.env_remove(variable);
    }
    Ok(command)
}

fn not_run(error: std::io::Error) -> Failure {
    Failure::new(format!("pitstop could not be started once more: {error}"))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// A command as a shell takes it.
fn shell(line: &[String]) -> String {
    let words: Vec<_> = line.iter().map(|text| word(text)).collect();
    format!("pitstop {}", words.join(" "))
}

/// The built-in layout for a flash of this size.
fn layout_for(flash_bytes: u32) -> Option<&'static str> {
    match flash_bytes >> 20 {
        0..4 => None,
        4..8 => Some("4mb"),
        8..16 => Some("8mb"),
        16.. => Some("16mb"),
    }
}

/// The address by which others in the network reach this machine.
fn address_in_the_network() -> Result<IpAddr, Failure> {
    let found = UdpSocket::bind(("0.0.0.0", 0))
        .and_then(|socket| socket.connect(SOMEWHERE).and_then(|()| socket.local_addr()))
        .map(|address| address.ip());
    match found {
        Ok(address) if !address.is_loopback() && !address.is_unspecified() => Ok(address),
        Ok(_) | Err(_) => {
            Err(Failure::new("this machine's address in its network is not known: is it in one?")
                .hint("give it with --address IP"))
        }
    }
}

impl Report {
    fn page(&self) -> Page {
        let commands = self.steps.iter().map(|step| {
            if step.kept { format!("{}   # was there", step.command) } else { step.command.clone() }
        });
        Page::titled("\nDone")
            .next("Without quickstart, in this order:", commands.collect::<Vec<_>>())
            .next("Next:", &self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_for_every_flash_that_has_room() {
        let expected =
            [(2, None), (4, Some("4mb")), (8, Some("8mb")), (16, Some("16mb")), (32, Some("16mb"))];
        for (megabytes, layout) in expected {
            assert_eq!(layout_for(megabytes << 20), layout);
        }
    }
}
