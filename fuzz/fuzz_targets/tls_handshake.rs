#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::tls_handshake::Input| fuzz::targets::tls_handshake::run(
    input
));
