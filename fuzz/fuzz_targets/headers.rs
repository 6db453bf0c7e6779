#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::headers::Input| fuzz::targets::headers::run(input));
