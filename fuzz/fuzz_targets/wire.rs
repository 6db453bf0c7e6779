#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::wire::Input| fuzz::targets::wire::run(input));
