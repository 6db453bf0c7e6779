//! A terminal for a command: a pseudo-terminal, which has columns and answers questions.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serialport::{SerialPort, TTYPort};

use super::pitstop_variables;

/// Whatever is waited for, it is there after this long.
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    master: TTYPort,
    slave: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of it was waited for.
    seen_bytes: usize,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Terminal {
    /// A tall one.
    pub(crate) fn new(columns: u16) -> Self {
        Self::with_size(50, columns)
    }

    pub(crate) fn with_size(rows: u16, columns: u16) -> Self {
        let (mut master, slave) = TTYPort::pair().unwrap();
        let name = slave.name().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()];
        let stty = Command::new("stty").args(size).stdin(slave.try_clone().unwrap()).status().unwrap();
        assert!(stty.success());
        master.set_timeout(Duration::from_millis(20)).unwrap();
        let (shown, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (mut reader, of_reader, end) = (master.try_clone_native().unwrap(), shown.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                if let Ok(count) = reader.read(&mut bytes) {
                    of_reader.lock().unwrap().extend(&bytes[..count]);
                }
            }
        });
        Self { master, slave, shown, seen_bytes: 0, ends, thread: Some(thread) }
    }

    /// `pitstop` with this terminal as its input and output, and nothing of this machine's environment that it would heed. There are
    /// no colours and no bars.
    pub(crate) fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        command.args(arguments).current_dir(folder).stdin(end()).stdout(end()).stderr(end());
        command.env("NO_COLOR", "1").env("TERM", "dumb");
        for variable in pitstop_variables() {
            command.env_remove(variable);
        }
        command
    }

    /// Waits until `question` is shown, and answers it.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.see(question);
        self.master.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    /// Waits until `text` is shown.
    pub(crate) fn see(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(at) = shown[self.seen_bytes..].find(text) {
                self.seen_bytes += at + text.len();
                return;
            }
            assert!(begun.elapsed() < LONGEST, "{text:?} is not in {shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the command ends; what was shown since the last answer comes with its status.
    pub(crate) fn end(&mut self, child: &mut Child) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LONGEST, "it does not end: {}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        // The last of it is still on its way.
        let mut length = 0;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let shown = self.shown();
            if shown.len() == length {
                let since = shown[self.seen_bytes..].to_owned();
                self.seen_bytes = shown.len();
                return (status, since);
            }
            length = shown.len();
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
