#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::chainload::Input| fuzz::targets::chainload::run(input));
