#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::otadata::Input| fuzz::targets::otadata::run(input));
