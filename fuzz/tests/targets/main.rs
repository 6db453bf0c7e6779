//! Every target over its corpus, and over inputs that are made of it: the same ones each time, on every machine.
//!
//! `cargo xtask fuzz` is for a search. `FUZZ_INPUT=FILE cargo test -p fuzz --test targets TARGET -- --exact --nocapture` shows one
//! input, whoever made it, and runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod mutate;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{env, fs, io, thread};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Where the random numbers of every target begin.
const SEED: u64 = 1;

/// An input that takes longer hangs, however busy the machine is.
const MAX_INPUT_TIME: Duration = Duration::from_secs(60);

/// The file with the only input to run, below the repository's root.
const INPUT_VARIABLE: &str = "FUZZ_INPUT";

/// Where an input is put that breaks a target, below the repository's root.
const BROKEN: &str = "target/fuzz/broken";

struct Target {
    name: &'static str,
    /// How many inputs are made of the corpus.
    inputs: usize,
    /// Says whether the bytes were an input at all.
    run: fn(&[u8]) -> bool,
    /// The input that the bytes are.
    show: fn(&[u8]) -> String,
}

macro_rules! tests {
    ($($name:ident: $inputs:literal,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                use fuzz::targets::$name::{Input, run};

                check(Target {
                    name: stringify!($name),
                    inputs: $inputs,
                    run: |bytes| fuzz::read(bytes).map(run).is_some(),
                    show: |bytes| format!("{:#?}", fuzz::read::<Input>(bytes)),
                });
            }
        )*
    };
}

fuzz::each_target!(tests);

fn check(target: Target) {
    if let Some(file) = env::var_os(INPUT_VARIABLE) {
        let bytes = fs::read(root().join(&file));
        let bytes = bytes.unwrap_or_else(|error| panic!("{INPUT_VARIABLE}={}: {error}", file.display()));
        println!("{}", (target.show)(&bytes));
        (target.run)(&bytes);
        return;
    }
    let Target { name, .. } = target;
    let corpus = corpus(name);
    let (sender, receiver) = mpsc::channel();
    // A thread of its own, so that one that hangs is noticed.
    let worker =
        thread::Builder::new().name(name.into()).spawn(move || run(&target, &corpus, &sender)).unwrap();
    let mut last = Vec::new();
    let fault = loop {
        match receiver.recv_timeout(MAX_INPUT_TIME) {
            Ok(input) => last = input,
            Err(RecvTimeoutError::Timeout) => break Some(format!("hangs for {MAX_INPUT_TIME:?}")),
            Err(RecvTimeoutError::Disconnected) => break worker.join().err().map(|_| "panics".into()),
        }
    };
    if let Some(fault) = fault {
        let file = save(name, &last);
        panic!(
            "{name} {fault}: the input is in {file}; see it and run it again with\n  \
             {INPUT_VARIABLE}={file} cargo test -p fuzz --test targets {name} -- --exact --nocapture"
        );
    }
}

/// Tells each input before it runs it.
fn run(target: &Target, corpus: &[Vec<u8>], told: &mpsc::Sender<Vec<u8>>) {
    let run = |bytes: &[u8]| {
        told.send(bytes.to_vec()).unwrap();
        (target.run)(bytes)
    };
    for bytes in corpus {
        assert!(run(bytes), "fuzz/corpus/{}/ has bytes that are no input any more", target.name);
    }
    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..target.inputs {
        run(&mutate::made_of(corpus, &mut random));
    }
}

/// The inputs that are kept for a target, always in the same order.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("fuzz/corpus/{target}");
    let mut files: Vec<_> = fs::read_dir(root().join(&folder))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    assert!(
        !files.is_empty(),
        "{target} has no corpus: run `cargo xtask fuzz {target}`, and keep a few small inputs in {folder}"
    );
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Where the input is now, below the repository's root.
fn save(target: &str, input: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let file = format!("{BROKEN}/{target}-{:016x}", hasher.finish());
    fs::create_dir_all(root().join(BROKEN)).unwrap();
    fs::write(root().join(&file), input).unwrap();
    file
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names in a folder of `fuzz/`, without their extensions.
fn names(folder: &str) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let mut names: Vec<_> = fs::read_dir(root().join("fuzz").join(folder)).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn what_there_is_of_each_target_is_in_the_list() {
    let hint = "all have the targets of `each_target!` (fuzz/src/targets/mod.rs), in order of their names";
    assert_eq!(names("fuzz_targets"), NAMES, "fuzz/fuzz_targets/: {hint}");
    assert_eq!(names("corpus"), NAMES, "fuzz/corpus/: {hint}");
    let modules: Vec<_> = names("src/targets").into_iter().filter(|name| name != "mod").collect();
    assert_eq!(modules, NAMES, "fuzz/src/targets/: {hint}");
}

/// Nothing but `cargo fuzz` builds them: they have to be alike, and to be named in Cargo.toml.
#[test]
fn libfuzzers_programs_only_call_their_targets() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let mut programs = manifest.split("\n[[bin]]\n").skip(1);
    for name in NAMES {
        let file = format!("fuzz_targets/{name}.rs");
        let expected = format!(
            "#![no_main] libfuzzer_sys::fuzz_target!(|input: fuzz::targets::{name}::Input| \
             fuzz::targets::{name}::run(input));"
        );
        let program = fs::read_to_string(root().join("fuzz").join(&file)).unwrap();
        // Long names are broken into lines, with braces.
        let words = |text: &str| text.replace(['{', '}'], "").split_whitespace().collect::<String>();
        assert_eq!(words(&program), words(&expected), "fuzz/{file}");
        let expected = format!(
            "name = \"{name}\"\npath = \"{file}\"\nrequired-features = [\"libfuzzer\"]\n\
             test = false\ndoc = false\nbench = false\n"
        );
        assert_eq!(
            programs.next(),
            Some(expected.as_str()),
            "fuzz/Cargo.toml has the programs in order of their names"
        );
    }
    assert_eq!(programs.next(), None, "fuzz/Cargo.toml");
}
