//! QEMU, where this computer has one that knows the chip.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::FindError;

/// What to do about a [`FindError`].
pub const HOW_TO_INSTALL: &str = "\
install Espressif's QEMU for RISC-V:
- with ESP-IDF: `python $IDF_PATH/tools/idf_tools.py install qemu-riscv32`
- or unpack a release from https://github.com/espressif/qemu/releases
then put qemu-system-riscv32 on PATH, or its path into PITSTOP_QEMU";

/// What the emulator's program is called unless `PITSTOP_QEMU` names one.
const PROGRAM: &str = "qemu-system-riscv32";

/// The machine that is needed, as `-machine help` lists it.
const MACHINE: &str = "esp32c3";

/// A QEMU that emulates the ESP32-C3. Displayed as its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
    /// Folder with the chip's ROM, when it is not where the program looks for it by itself.
    data: Option<PathBuf>,
}

impl Qemu {
    /// The program in `PITSTOP_QEMU`, else the one on `PATH`.
    ///
    /// `PITSTOP_QEMU_DATA` is the folder with the ROMs; without it, `../pc-bios` as seen from the program is taken when
    /// it exists, which is how a build folder of QEMU looks.
    ///
    /// # Errors
    /// There is none, or it does not know the ESP32-C3.
    pub fn find() -> Result<Self, FindError> {
        Self::choose(env::var_os("PITSTOP_QEMU").map(PathBuf::from), env::var_os("PITSTOP_QEMU_DATA"))
    }

    fn choose(program: Option<PathBuf>, data: Option<OsString>) -> Result<Self, FindError> {
        let program = match program {
            Some(program) => program,
            None => on_path(PROGRAM).ok_or(FindError::NotOnPath { program: PROGRAM })?,
        };
        let output = Command::new(&program)
            .args(["-machine", "help"])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| FindError::Start { program: program.clone(), source })?;
        if !output.status.success() {
            return Err(FindError::Status { program, status: output.status });
        }
        let machines = String::from_utf8_lossy(&output.stdout);
        if !machines.lines().any(|line| line.split_whitespace().next() == Some(MACHINE)) {
            return Err(FindError::NoMachine { program, machine: MACHINE });
        }
        let beside = || {
            let folder = program.parent()?.parent()?.join("pc-bios");
            folder.is_dir().then_some(folder)
        };
        let data = data.map(PathBuf::from).or_else(beside);
        Ok(Self { program, data })
    }

    /// The command that switches on a chip with this flash, whose debugger is at a port of this computer.
    pub(crate) fn command(&self, flash: &Path, debugger_port: u16) -> Command {
        let mut command = Command::new(&self.program);
        // -nographic puts the chip's UART and the emulator's monitor on standard input and output.
        command.args(["-machine", MACHINE, "-nographic", "-nic", "user,model=open_eth"]);
        if let Some(data) = &self.data {
            command.arg("-L").arg(data);
        }
        command.arg("-drive").arg(drive(flash));
        command.arg("-gdb").arg(format!("tcp:127.0.0.1:{debugger_port}"));
        command
    }
}

impl fmt::Display for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

/// The option for a flash. A comma ends a value there, and two stand for one (QEMU, "Block device options").
fn drive(flash: &Path) -> OsString {
    format!("file={},if=mtd,format=raw", flash.display().to_string().replace(',', ",,")).into()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_is_no_option() {
        assert_eq!(drive(Path::new("a,b.bin")), "file=a,,b.bin,if=mtd,format=raw");
    }

    #[cfg(unix)]
    #[test]
    fn an_emulator_is_one_that_has_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let script = |text: &str| crate::machine::tests::script(folder.path(), text);
        let with = script("printf 'Supported machines are:\\nesp32c3   Espressif\\n'");
        assert_eq!(Qemu::choose(Some(with.clone()), None).unwrap().data, None);
        std::fs::create_dir(folder.path().join("pc-bios")).unwrap();
        let beside = Qemu::choose(Some(with.clone()), None).unwrap();
        assert_eq!(beside.data, Some(folder.path().join("pc-bios")));
        let named = Qemu::choose(Some(with), Some("roms".into())).unwrap();
        assert_eq!(named.data, Some("roms".into()));

        let without = script("printf 'Supported machines are:\\nvirt   esp32c3x\\n'");
        assert!(matches!(Qemu::choose(Some(without), None), Err(FindError::NoMachine { .. })));
        let broken = script("exit 3");
        assert!(matches!(Qemu::choose(Some(broken), None), Err(FindError::Status { .. })));
        let nothing = folder.path().join("nothing");
        assert!(matches!(Qemu::choose(Some(nothing), None), Err(FindError::Start { .. })));
    }
}
