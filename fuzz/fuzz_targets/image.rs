#![no_main]

libfuzzer_sys::fuzz_target!(|input: fuzz::targets::image::Input| fuzz::targets::image::run(input));
