#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::addresses::Input| fuzz::targets::addresses::run(input));
