//! A second stack plays the chip, threads with sockets on 127.0.0.1 play the host.

mod answers;
mod connections;
mod frames;
mod lab;
mod malformed;
mod transfer;
