#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::keys::Input| fuzz::targets::keys::run(input));
