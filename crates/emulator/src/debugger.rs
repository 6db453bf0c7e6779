//! A debugger on the chip's processor: the GDB remote serial protocol (GDB manual, appendix E), as far as it is needed
//! to let something go wrong that no image does by itself.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// How many registers a `g` packet has: x0 to x31 and the program counter.
pub(crate) const REGISTERS: usize = 33;

/// How long the emulator may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The program counter, in the numbering of QEMU's `riscv-32bit-cpu.xml`.
const PROGRAM_COUNTER: u32 = 32;

/// Where code is put that no image has: the last 16 bytes of the RTC fast memory (ESP32-C3 TRM, table 3-3), which no
/// image here uses.
const SPARE_ADDR: u32 = 0x5000_1FF0;

/// `csrci mstatus, 8`, `j .`: no interrupt gets in, and nothing goes on.
const HANG: [u32; 2] = [0x3004_7073, 0x0000_006F];

/// No instruction (RISC-V Unprivileged ISA, 1.5).
const CRASH: [u32; 2] = [0, 0];

/// A debugger. The chip stands still while it is not told to go on; dropping it lets the chip go on.
#[derive(Debug)]
pub(crate) struct Debugger {
    stream: BufReader<TcpStream>,
}

impl Debugger {
    /// Stops the chip whose emulator listens at this port.
    pub(crate) fn attach(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut debugger = Self { stream: BufReader::new(stream) };
        debugger.command("?")?;
        // QEMU gives single registers to those only who have asked what registers there are.
        debugger.command("qXfer:features:read:target.xml:0,40")?;
        Ok(debugger)
    }

    /// Lets the processor spin with interrupts off once it goes on.
    pub(crate) fn hang(&mut self) -> io::Result<()> {
        self.divert(HANG)
    }

    /// Lets the processor come upon no instruction once it goes on.
    pub(crate) fn crash(&mut self) -> io::Result<()> {
        self.divert(CRASH)
    }

    /// Stops the chip before the instruction at an address, whenever it comes there.
    pub(crate) fn break_at(&mut self, addr: u32) -> io::Result<()> {
        self.order(&format!("Z1,{addr:x},2"))
    }

    /// Lets the chip go on to the next of these addresses; returns its registers there.
    pub(crate) fn go_on(&mut self) -> io::Result<[u32; REGISTERS]> {
        self.stream.get_ref().set_read_timeout(None)?;
        self.command("c")?;
        self.stream.get_ref().set_read_timeout(Some(ANSWER))?;
        let packet = self.command("g")?;
        let mut registers = [0; REGISTERS];
        for (index, register) in registers.iter_mut().enumerate() {
            let digits = packet.get(8 * index..8 * index + 8).ok_or_else(|| unexpected(&packet))?;
            let value = u32::from_str_radix(digits, 16).map_err(|_| unexpected(&packet))?;
            *register = value.swap_bytes();
        }
        Ok(registers)
    }

    /// Lets the chip do the one instruction at which it stopped.
    pub(crate) fn step_over(&mut self, addr: u32) -> io::Result<()> {
        self.order(&format!("z1,{addr:x},2"))?;
        self.command("s")?;
        self.break_at(addr)
    }

    fn divert(&mut self, code: [u32; 2]) -> io::Result<()> {
        for (addr, instruction) in (SPARE_ADDR..).step_by(size_of::<u32>()).zip(code) {
            self.order(&format!("M{addr:x},4:{:08x}", instruction.swap_bytes()))?;
        }
        self.order(&format!("P{PROGRAM_COUNTER:x}={:08x}", SPARE_ADDR.swap_bytes()))
    }

    fn order(&mut self, command: &str) -> io::Result<()> {
        let answer = self.command(command)?;
        if answer == "OK" { Ok(()) } else { Err(unexpected(&answer)) }
    }

    fn command(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.answer()
    }

    fn send(&mut self, command: &str) -> io::Result<()> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.get_mut().write_all(format!("${command}#{sum:02x}").as_bytes())
    }

    fn answer(&mut self) -> io::Result<String> {
        self.skip_to_packet()?;
        self.packet()
    }

    /// Reads acknowledgements, up to where a packet begins.
    fn skip_to_packet(&mut self) -> io::Result<()> {
        let mut skipped = Vec::new();
        self.stream.read_until(b'$', &mut skipped)?;
        if skipped.last() == Some(&b'$') { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The packet that has begun, without its checksum: nothing is lost or changed on the way within a computer.
    fn packet(&mut self) -> io::Result<String> {
        let (mut packet, mut sum) = (Vec::new(), [0; 2]);
        self.stream.read_until(b'#', &mut packet)?;
        self.stream.read_exact(&mut sum)?;
        packet.pop();
        self.stream.get_mut().write_all(b"+")?;
        Ok(String::from_utf8_lossy(&packet).into_owned())
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // Fails only when the emulator is gone.
        let _ = self.send("D");
    }
}

fn unexpected(answer: &str) -> io::Error {
    io::Error::other(format!("the debugger's answer is {answer:?}"))
}

/// A port of this computer that nobody listens at.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Answers each command with the next of `answers`; returns the commands.
    fn serve(answers: &'static [&'static str]) -> (u16, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let mut server = Debugger { stream: BufReader::new(listener.accept().unwrap().0) };
            answers
                .iter()
                .map(|answer| {
                    let command = server.answer().unwrap();
                    server.send(answer).unwrap();
                    command
                })
                .collect()
        });
        (port, server)
    }

    #[test]
    fn a_chip_is_diverted_to_code_that_hangs() {
        let (port, server) = serve(&["T05", "l", "OK", "OK", "OK"]);
        let mut debugger = Debugger::attach(port).unwrap();
        debugger.hang().unwrap();
        assert_eq!(
            server.join().unwrap(),
            [
                "?",
                "qXfer:features:read:target.xml:0,40",
                "M50001ff0,4:73700430",
                "M50001ff4,4:6f000000",
                "P20=f01f0050"
            ]
        );
    }

    #[test]
    fn a_chip_goes_on_to_where_it_is_watched() {
        let registers: String = (0..33_u32).map(|value| format!("{:08x}", value.swap_bytes())).collect();
        let registers: &'static str = registers.leak();
        let answers: &'static [&'static str] =
            vec!["T05", "l", "OK", "T05", registers, "OK", "T05", "OK"].leak();
        let (port, server) = serve(answers);
        let mut debugger = Debugger::attach(port).unwrap();
        debugger.break_at(0x4000_0050).unwrap();
        let found = debugger.go_on().unwrap();
        assert!(found.iter().enumerate().all(|(index, value)| *value == index as u32));
        debugger.step_over(0x4000_0050).unwrap();
        let commands = server.join().unwrap();
        assert_eq!(commands[2..], ["Z1,40000050,2", "c", "g", "z1,40000050,2", "s", "Z1,40000050,2"]);
    }

    #[test]
    fn an_order_that_is_not_carried_out_is_an_error() {
        let (port, server) = serve(&["T05", "l", "E22"]);
        let mut debugger = Debugger::attach(port).unwrap();
        assert!(debugger.crash().unwrap_err().to_string().contains("E22"));
        server.join().unwrap();
    }
}
