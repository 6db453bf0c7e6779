#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::csr::Input| fuzz::targets::csr::run(input));
