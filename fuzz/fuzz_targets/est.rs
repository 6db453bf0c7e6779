#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::est::Input| fuzz::targets::est::run(input));
