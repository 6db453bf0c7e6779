#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::journal::Input| fuzz::targets::journal::run(input));
