//! `pitstop quickstart`: from nothing to a board that runs a release, by the commands that it stands for. Each of them is run as
//! a person would, and shown.

mod answers;
mod steps;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use api::device::{Device, DeviceState};
use api::product::Product;
use clap::Args;
use flashfmt::Chip;
use serde::Serialize;
use server::{Config, RunningServer};
use tokio::runtime::Runtime;

use crate::client::{Client, ClientError, TOKEN_FILE};
use crate::commands::serve;
use crate::commands::{ask, options, wifi};
use crate::failure::Failure;
use crate::flash::serial::SerialChip;
use crate::flash::serial_options::SerialOptions;
use crate::flash::updater;
use crate::layouts::NamedLayout;
use crate::ui::{Page, Ui, size};
use steps::{Step, Steps, shell};

const EXAMPLES: &str = "\
Examples:
  pitstop quickstart                          asks for what it is not told
  pitstop quickstart --port /dev/ttyUSB0 --app app.bin --wifi workshop
  pitstop quickstart lamp --chip esp32c3 --flash-size 4MB --image lamp.bin \\
      --app app.bin --no-wifi
  pitstop quickstart lamp --chip esp32c3 --flash-size 4MB --no-app \\
      --address 192.168.1.20

Makes a publisher key, serves on this machine's address in its network, makes a
product, publishes the application, flashes the board, and shows each step as
the command it stands for. What is there already is kept: give it again after
whatever went wrong, or with another --device for the next board. Then it
serves until Ctrl-C. Where there is no terminal to ask at, a missing option is
an error that names it.";

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

    /// The serial port that the board is on; its chip and the size of its flash are read from it [default: you are asked, unless
    /// --chip or --image is given]
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

    /// The size of the flash, where there is no board to ask and no product yet, such as 4MB
    #[arg(long, value_name = "SIZE", value_parser = options::flash_size, conflicts_with = "layout", help_heading = "Board")]
    flash_size: Option<u32>,

    /// The flash layout [default: the built-in one for the size of the flash]
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

    /// Publish none yet
    #[arg(long, conflicts_with = "app", help_heading = "Application")]
    no_app: bool,

    /// The publisher's key file, made if it is not there
    #[arg(long, value_name = "FILE", default_value = "publisher.key", help_heading = "Application")]
    key: PathBuf,

    /// A network that the device joins, best first
    #[arg(long = "wifi", value_name = "SSID", value_parser = wifi::ssid, help_heading = "Wi-Fi")]
    networks: Vec<String>,

    /// Give it none: a browser does, over the serial port (docs/hardware.md)
    #[arg(long, conflicts_with = "networks", help_heading = "Wi-Fi")]
    no_wifi: bool,

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

/// What was done.
#[derive(Serialize)]
struct Report {
    product: String,
    device: String,
    admin_url: String,
    /// The file that has it.
    admin_token: PathBuf,
    steps: Vec<Step>,
    /// What the user can do next: commands.
    next: Vec<String>,
}

/// What was found and answered.
struct Answers {
    chip: String,
    layout: String,
    has_product: bool,
    /// The device is the product's, and has a certificate.
    has_enrolled: bool,
}

/// What a board says of itself.
struct Board {
    chip: Chip,
    flash_bytes: Option<u32>,
}

impl Quickstart {
    /// Runs the command.
    pub(crate) fn run(mut self, ui: &Ui) -> Result<(), Failure> {
        for path in [&self.app, &self.updater].into_iter().flatten() {
            crate::inspect::ImageFile::read(path)?;
        }
        if !ask::is_somebody_there() {
            self.check_answers()?;
        }
        let board = self.find_board(ui)?;
        self.check_updater(board.as_ref())?;
        let runtime = Runtime::new()
            .map_err(|error| Failure::new(format!("the server's threads cannot be started: {error}")))?;
        let mut steps = Steps::new(ui, self.data.clone(), self.admin);
        let mut running = self.serve(&runtime, &mut steps)?;
        let done = self.steps(board.as_ref(), &mut steps);
        let report = done.map(|next| Report {
            product: self.product.clone(),
            device: self.device(),
            admin_url: format!("http://{}", self.admin),
            admin_token: self.data.join(TOKEN_FILE),
            steps: steps.into_done(),
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

    /// Whether there is something to write to.
    fn has_target(&self) -> bool {
        self.port.is_some() || self.image.is_some()
    }

    /// Refuses before anything is made what would be asked for later, where there is nobody to ask.
    fn check_answers(&self) -> Result<(), Failure> {
        if let (Some(chip), Some(flash_bytes), None) = (self.chip, self.flash_size, &self.layout) {
            layout_for(chip, flash_bytes)?;
        }
        if self.app.is_none() && !self.no_app {
            return Err(Failure::usage(
                "expected --app FILE, the application to publish, and there is no terminal to ask at",
            )
            .hint("--no-app publishes none yet"));
        }
        if self.has_target() && self.networks.is_empty() && !self.no_wifi {
            return Err(Failure::usage(
                "expected --wifi SSID, the network that the device joins, and there is no terminal to ask at",
            )
            .hint("--no-wifi gives it none"));
        }
        if self.port.is_none() && self.chip.is_none() {
            return Err(Failure::usage("expected --chip CHIP, or --port PORT to ask the board for it"));
        }
        if self.port.is_none() && self.flash_size.is_none() && self.layout.is_none() {
            return Err(Failure::usage(
                "expected --flash-size SIZE or --layout LAYOUT, or --port PORT to ask the board for it",
            ));
        }
        Ok(())
    }

    /// Refuses a chip for which there is no updater to flash, before anything is made.
    fn check_updater(&self, board: Option<&Board>) -> Result<(), Failure> {
        match board.map(|board| board.chip).or(self.chip) {
            Some(chip) if self.has_target() && self.updater.is_none() => Ok(updater::check(chip)?),
            Some(_) | None => Ok(()),
        }
    }

    /// The board on the port that was given, or on one that is asked for. Where nothing answers, another one may be named.
    fn find_board(&mut self, ui: &Ui) -> Result<Option<Board>, Failure> {
        let may_ask = ask::is_somebody_there();
        if !self.has_target() && self.chip.is_none() && may_ask {
            self.port = answers::port()?;
        }
        loop {
            let Some(port) = &self.port else { return Ok(None) };
            match SerialChip::connect(port, &self.serial, ui) {
                Ok(chip) => return self.board(port, chip).map(Some),
                Err(error) if error.is_of_port() && may_ask => {
                    let failure = Failure::from(error);
                    let hint = failure.next_step().map_or(String::new(), |hint| format!("; {hint}"));
                    ui.warning(&format!("{}{hint}", failure.message()));
                    self.port = answers::port()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is on the port, left as it was.
    fn board(&self, port: &str, mut found: SerialChip) -> Result<Board, Failure> {
        let (name, flash_bytes) = (found.name(), found.flash_bytes()?);
        found.finish()?;
        let chip = options::chip(&name).map_err(Failure::new)?;
        if let Some(asked) = self.chip.filter(|asked| *asked != chip) {
            return Err(Failure::new(format!("expected {asked} on {port}, found {chip}"))
                .hint("leave --chip away: the board is asked for it"));
        }
        if let (Some(asked), Some(found)) = (self.flash_size, flash_bytes)
            && asked != found
        {
            let (asked, found) = (size(asked.into()), size(found.into()));
            return Err(Failure::new(format!("expected a flash of {asked} on {port}, found {found}"))
                .hint("leave --flash-size away: the board is asked for it"));
        }
        // The user's own layout is asked for, whatever the flash.
        if let (Some(flash_bytes), None) = (flash_bytes, &self.layout) {
            layout_for(chip, flash_bytes)?;
        }
        Ok(Board { chip, flash_bytes })
    }

    /// The layout of a new product.
    fn layout(&self, chip: &str, board: Option<&Board>) -> Result<String, Failure> {
        if let Some(layout) = &self.layout {
            return Ok(layout.clone());
        }
        let known = board.and_then(|board| board.flash_bytes).or(self.flash_size);
        let chip = options::chip(chip).map_err(Failure::new)?;
        Ok(layout_for(chip, known.map_or_else(answers::flash_size, Ok)?)?.to_owned())
    }

    /// A server of this process, unless one answers.
    fn serve(&self, runtime: &Runtime, steps: &mut Steps<'_>) -> Result<Option<RunningServer>, Failure> {
        if TcpStream::connect_timeout(&self.admin, ANSWERS_WITHIN).is_ok() {
            self.take_server(steps)?;
            return Ok(None);
        }
        let address = self.address.map_or_else(address_in_the_network, Ok)?;
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
        steps.shown(&line)?;
        let mut config = Config::new(&self.data);
        config.device_addr = listen;
        config.admin_addr = self.admin;
        config.server_names = vec![address.to_string()];
        runtime.block_on(server::start(config)).map(Some).map_err(serve::failure)
    }

    /// Goes on with the server that answers, if it is of this folder and is where it is expected.
    fn take_server(&self, steps: &mut Steps<'_>) -> Result<(), Failure> {
        let of_another = |failure: Failure| {
            failure.hint(format!(
                "what answers at {} is the server of another folder, or another program: name its folder with --data, or \
                 another place for this one with --admin and --device-port",
                self.admin
            ))
        };
        let info = steps.client().and_then(|client| Ok(client.info()?)).map_err(of_another)?;
        if let Some(address) = self.address {
            let wanted = format!("https://{}", SocketAddr::new(address, self.device_port));
            if info.device_url != wanted {
                return Err(Failure::new(format!(
                    "expected a server for devices at {wanted}, found one at {} for devices at {}",
                    self.admin, info.device_url
                ))
                .hint("end that one, or leave --address and --device-port away to take it as it is"));
            }
        }
        let there = format!("a server answers at {}, for devices at {}", self.admin, info.device_url);
        steps.kept(&["serve".to_owned()], &there)
    }

    /// What the steps need to know. All that is asked for is asked here, before any of them.
    fn ask(&mut self, board: Option<&Board>, client: &Client) -> Result<Answers, Failure> {
        let known = there(client.product(&self.product))?;
        let chip = match (board.map(|board| board.chip).or(self.chip), &known) {
            (Some(chip), _) => chip.name().to_owned(),
            (None, Some(known)) => known.chip.clone(),
            (None, None) => answers::chip()?.name().to_owned(),
        };
        let layout = match &known {
            Some(known) => {
                self.check_known(known, &chip)?;
                known.layout.name.clone()
            }
            None => self.layout(&chip, board)?,
        };
        if self.app.is_none() && !self.no_app {
            self.app = answers::app()?;
        }
        let is_of_product =
            |known: Device| known.product == self.product && known.state == DeviceState::Enrolled;
        let has_enrolled = there(client.device(&self.device()))?.is_some_and(is_of_product);
        if self.has_target() && !has_enrolled && self.networks.is_empty() && !self.no_wifi {
            self.networks.extend(answers::network()?);
        }
        Ok(Answers { chip, layout, has_product: known.is_some(), has_enrolled })
    }

    /// Refuses a board that the product is not for.
    fn check_known(&self, known: &Product, chip: &str) -> Result<(), Failure> {
        let name = &self.product;
        let other = "name another product: pitstop quickstart NAME";
        if known.chip != chip {
            let of_product = &known.chip;
            return Err(Failure::new(format!(
                "expected a board with an {of_product}, as the product {name} is for, found {chip}"
            ))
            .hint(other));
        }
        let needed = NamedLayout::parse(&known.layout.name, &known.layout.csv)?.flash_bytes();
        match self.flash_size {
            Some(flash_bytes) if flash_bytes < needed => Err(Failure::new(format!(
                "expected a flash of {} or more, as the layout {} of the product {name} needs, found {}",
                size(needed.into()),
                known.layout.name,
                size(flash_bytes.into())
            ))
            .hint(other)),
            Some(_) | None => Ok(()),
        }
    }

    /// Everything but the server; what is left to do.
    fn steps(&mut self, board: Option<&Board>, steps: &mut Steps<'_>) -> Result<Vec<String>, Failure> {
        let Answers { chip, layout, has_product, has_enrolled } = self.ask(board, &steps.client()?)?;
        let (product, device) = (self.product.clone(), self.device());
        let key = self.key.display().to_string();
        let new_key = ["keys", "new", "--out", &key].map(str::to_owned);
        if self.key.exists() {
            steps.kept(&new_key, &format!("{key} is there"))?;
        } else {
            steps.run(&new_key)?;
        }

        let new_product = ["product", "new", &product, "--chip", &chip, "--layout", &layout, "--key", &key];
        let new_product = steps.at_server(&new_product.map(str::to_owned));
        if has_product {
            steps.kept(&new_product, &format!("the product {product} is there"))?;
        } else {
            steps.run(&new_product)?;
        }

        let mut next = Vec::new();
        let publish = |app: &str| {
            let line = ["release", "publish", app, "--product", &product, "--key", &key];
            line.map(str::to_owned)
        };
        match &self.app {
            Some(app) => steps.run(&steps.at_server(&publish(&app.display().to_string())))?,
            None => next.push(shell(&steps.at_server(&publish("app.bin")))),
        }

        let flash = steps.at_server(&self.flash(&device));
        match (self.has_target(), has_enrolled) {
            (false, _) => next.push(shell(&flash)),
            (true, true) => steps.kept(&flash, &format!("{device} has enrolled"))?,
            (true, false) => steps.run(&flash)?,
        }
        next.push(shell(&steps.at_server(&["device", "show", &device].map(str::to_owned))));
        Ok(next)
    }

    /// `flash` with its options; with words in their places where there is no board yet.
    fn flash(&self, device: &str) -> Vec<String> {
        let mut line = vec!["flash".to_owned()];
        let mut add = |option: &str, value: String| line.extend([option.to_owned(), value]);
        match (&self.port, &self.image) {
            (Some(port), _) => add("--port", port.clone()),
            (None, Some(image)) => add("--image", image.display().to_string()),
            (None, None) => add("--port", "PORT".to_owned()),
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
        if self.networks.is_empty() && !self.has_target() && !self.no_wifi {
            add("--wifi", "SSID".to_owned());
        }
        if let Some(path) = &self.passphrase_file {
            add("--wifi-passphrase-file", path.display().to_string());
        }
        line.extend(self.serial.arguments());
        for (flag, is_given) in [("--allow-loopback", self.allow_loopback), ("--yes", self.yes)] {
            line.extend(is_given.then(|| flag.to_owned()));
        }
        line
    }
}

/// What the server has, or `None` when it says that there is no such thing.
fn there<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The built-in layout for a flash of this size.
fn layout_for(chip: Chip, flash_bytes: u32) -> Result<&'static str, Failure> {
    // Their updaters cannot start an application themselves (docs/handover.md).
    let by_otadata = matches!(chip, Chip::Esp32 | Chip::Esp32S3);
    match (flash_bytes >> 20, by_otadata) {
        (8.., true) => Ok("8mb-rollback"),
        (4..8, false) => Ok("4mb"),
        (8..16, false) => Ok("8mb"),
        (16.., false) => Ok("16mb"),
        (0..8, _) => {
            let (least, beginning) = if by_otadata { (8, "8mb-rollback") } else { (4, "4mb") };
            let found = size(flash_bytes.into());
            Err(Failure::new(format!("expected a flash of {least} MiB or more with {chip}, found {found}")).hint(
                format!(
                    "give a layout of your own with --layout in place of --flash-size; `pitstop layout show {beginning}` is a \
                     beginning"
                ),
            ))
        }
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
            .note(format_args!(
                "The dashboard is at {}: open it in a browser, and log in with the token in {}.",
                self.admin_url,
                self.admin_token.display()
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_for_every_flash_that_has_room() {
        for (megabytes, layout) in [(4, "4mb"), (8, "8mb"), (16, "16mb"), (32, "16mb")] {
            assert_eq!(layout_for(Chip::Esp32C3, megabytes << 20), Ok(layout));
        }
        for chip in [Chip::Esp32, Chip::Esp32S3] {
            assert_eq!(layout_for(chip, 8 << 20), Ok("8mb-rollback"));
            assert_eq!(layout_for(chip, 16 << 20), Ok("8mb-rollback"));
            let refused = layout_for(chip, 4 << 20).unwrap_err();
            assert!(refused.message().contains("8 MiB or more with esp32"), "{}", refused.message());
        }
        assert!(layout_for(Chip::Esp32C3, 2 << 20).unwrap_err().message().contains("found 2.00 MiB"));
    }
}
