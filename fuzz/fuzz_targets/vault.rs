#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::vault::Input| fuzz::targets::vault::run(input));
