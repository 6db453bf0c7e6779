#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: fuzz::targets::app_descriptor::Input| fuzz::targets::app_descriptor::run(input)
);
