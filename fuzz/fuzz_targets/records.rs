#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::records::Input| fuzz::targets::records::run(input));
