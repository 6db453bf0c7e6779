#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::manifest::Input| fuzz::targets::manifest::run(input));
