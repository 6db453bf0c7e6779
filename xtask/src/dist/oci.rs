//! The program as a container image: an OCI image layout (image-spec 1.1, image-layout.md) in a tar archive, as `podman load`
//! and `skopeo copy oci-archive:` take it.
//!
//! It holds the program, the libraries that the loader asks for, and the certificates of public authorities; no shell, no
//! package manager. Settings are those of `deploy/Containerfile`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, gzip};
use super::{Release, hex, read};
use crate::process;

/// Where the program is in the image.
const PROGRAM: &str = "usr/local/bin/pitstop";
/// Who runs it: the same as in `deploy/Containerfile`.
const USER: u64 = 10_001;
/// Authorities that an S3 store or a database may be certified by.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What Debian says of the origin of the libraries, for those who look.
const ORIGINS: [&str; 3] = ["libc6", "libgcc-s1", "ca-certificates"];

/// An image before it is packed.
pub(super) struct Image {
    files: Vec<File>,
    at_s: u64,
}

struct File {
    /// From the root, without a leading `/`.
    path: String,
    bytes: Vec<u8>,
    mode: u32,
}

/// Gathers an image around a program.
///
/// Errors: a library, or the certificates of public authorities, are not on this machine.
pub(super) fn image(program: &Path, licences: &[u8], release: &Release) -> anyhow::Result<Image> {
    let mut image = Image { files: Vec::new(), at_s: release.at_s };
    image.put(PROGRAM, read(program)?, 0o755);
    for library in libraries(program)? {
        image.put(&library, read(Path::new(&library))?, 0o755);
    }
    image.put(AUTHORITIES, read(Path::new(AUTHORITIES))?, 0o644);
    let user = format!("pitstop:x:{USER}:{USER}::/data:/usr/sbin/nologin\n");
    image.put("etc/passwd", user.into_bytes(), 0o644);
    image.put("etc/group", format!("pitstop:x:{USER}:\n").into_bytes(), 0o644);
    image.put("usr/share/doc/pitstop/THIRD-PARTY.txt", licences.to_vec(), 0o644);
    for package in ORIGINS {
        let path = format!("/usr/share/doc/{package}/copyright");
        if let Ok(origin) = fs::read(&path) {
            image.put(&path, origin, 0o644);
        }
    }
    image.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(image)
}

/// What the loader would open for a program, the loader itself included.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    Ok(loaded(&process::read(Command::new("ldd").arg(program))?))
}

/// Paths in what `ldd` prints: after `=>`, or at the beginning for the loader.
fn loaded(output: &str) -> Vec<String> {
    let word = |line: &str| {
        let place = line.split_once("=> ").map_or(line.trim_start(), |(_, place)| place);
        place.split_whitespace().next().filter(|word| word.starts_with('/')).map(str::to_owned)
    };
    output.lines().filter_map(word).collect()
}

impl Image {
    fn put(&mut self, path: &str, bytes: Vec<u8>, mode: u32) {
        self.files.push(File { path: path.trim_start_matches('/').to_owned(), bytes, mode });
    }

    /// Starts the program with the image's own loader and libraries, and nothing of this machine's.
    ///
    /// Errors: it does not start, or is of another version.
    pub(super) fn check(&self, version: &str) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let within = |path: &str| folder.path().join(path);
        for file in &self.files {
            let path = within(&file.path);
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            fs::write(&path, &file.bytes)?;
            set_mode(&path, file.mode)?;
        }
        let is_loader = |file: &&File| name(&file.path).starts_with("ld-");
        let loader = self.files.iter().find(is_loader).context("the image has no loader")?;
        let is_library = |file: &&File| name(&file.path).contains(".so");
        let mut folders: Vec<PathBuf> = Vec::new();
        for file in self.files.iter().filter(is_library) {
            folders.extend(within(&file.path).parent().map(Path::to_owned));
        }
        folders.dedup();
        let folders = std::env::join_paths(folders)?;
        let start = |options: &[&str]| {
            let mut command = Command::new(within(&loader.path));
            command.env_clear().args(["--inhibit-cache", "--library-path"]).arg(&folders).args(options);
            command
        };
        // The loader goes on to this machine's folders, where the image has none.
        for library in loaded(&process::read(start(&["--list"]).arg(within(PROGRAM)))?) {
            ensure!(Path::new(&library).starts_with(folder.path()), "the image lacks {library}");
        }
        let said = process::read(start(&[]).arg(within(PROGRAM)).arg("--version"))?;
        ensure!(
            said == format!("pitstop {version}"),
            "expected pitstop {version} in the image, found {said}"
        );
        Ok(())
    }

    /// The image's layout as an archive.
    pub(super) fn layout(&self) -> anyhow::Result<Vec<u8>> {
        let mut layer = Archive::new(self.at_s);
        layer.folder("data", 0o700, USER)?;
        layer.folder("tmp", 0o1777, 0)?;
        for file in &self.files {
            layer.file(&file.path, &file.bytes, file.mode)?;
        }
        let layer = layer.finish()?;
        let packed = gzip(&layer)?;
        let config = serde_json::to_vec(&config(&layer))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION") });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });

        let mut archive = Archive::new(self.at_s);
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        archive.file("index.json", &serde_json::to_vec(&index)?, 0o644)?;
        for blob in [&config, &manifest, &packed] {
            archive.file(&format!("blobs/sha256/{}", hex(&Sha256::digest(blob))), blob, 0o644)?;
        }
        archive.finish()
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", hex(&Sha256::digest(bytes))),
        "size": bytes.len(),
    })
}

/// The image's configuration (image-spec 1.1, config.md), for the layer before it is packed.
fn config(layer: &[u8]) -> Value {
    // As the specification's `GOARCH` names it.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": USER.to_string(),
            "WorkingDir": "/data",
            "Volumes": { "/data": {} },
            "Env": [
                "PATH=/usr/local/bin",
                "PITSTOP_DATA=/data",
                "PITSTOP_LISTEN=0.0.0.0:8443",
                "PITSTOP_ADMIN=0.0.0.0:8080",
                "PITSTOP_LOG_FORMAT=json",
            ],
            "ExposedPorts": { "8443/tcp": {}, "8080/tcp": {} },
            "StopSignal": "SIGTERM",
            "Entrypoint": ["/usr/local/bin/pitstop"],
            "Cmd": ["serve"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(layer)))],
        },
    })
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> anyhow::Result<()> {
    anyhow::bail!("an image for Linux is made on Linux")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn unpacked(archive: impl std::io::Read) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    #[test]
    fn libraries_and_loader_are_found_in_what_ldd_prints() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(loaded(output), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_layout_s_descriptors_lead_from_the_index_to_every_file() {
        let mut image = Image { files: Vec::new(), at_s: 1_700_000_000 };
        image.put("/usr/local/bin/pitstop", b"program".to_vec(), 0o755);
        let files = unpacked(&image.layout().unwrap()[..]);
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = files[&format!("blobs/sha256/{digest}")].clone();
            assert_eq!(
                (hex(&Sha256::digest(&bytes)), bytes.len() as u64),
                (digest.to_owned(), descriptor["size"].as_u64().unwrap())
            );
            bytes
        };
        assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let manifest = json(&blob(&json(&files["index.json"])["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let mut layer = Vec::new();
        GzDecoder::new(&blob(&manifest["layers"][0])[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(&layer))));
        assert_eq!(unpacked(&layer[..])["usr/local/bin/pitstop"], b"program");
    }

    /// What the two images set is the same; they differ in what is around the program.
    #[test]
    fn settings_are_those_of_the_containerfile() {
        let text = fs::read_to_string(crate::repository_root().join("deploy/Containerfile")).unwrap();
        let config = config(&[]);
        let variables = config["config"]["Env"].as_array().unwrap().iter().skip(1);
        for variable in variables.map(|variable| variable.as_str().unwrap()) {
            assert!(text.contains(variable), "{variable} is not in the Containerfile");
        }
        assert!(text.contains(&format!("USER {USER}\n")) && text.contains("STOPSIGNAL SIGTERM"));
    }

    /// `true` in place of the program: an image of this machine's own that starts by what it holds.
    #[test]
    fn an_image_that_does_not_start_is_noticed() {
        let program = Path::new("/bin/true");
        let mut image = Image { files: Vec::new(), at_s: 0 };
        image.put(PROGRAM, read(program).unwrap(), 0o755);
        for library in libraries(program).unwrap() {
            image.put(&library, read(Path::new(&library)).unwrap(), 0o755);
        }
        let error = image.check("9.9.9").unwrap_err().to_string();
        assert!(error.starts_with("expected pitstop 9.9.9 in the image, found "), "{error}");
        image.files.retain(|file| !file.path.contains("libc.so"));
        let error = image.check("9.9.9").unwrap_err().to_string();
        assert!(error.starts_with("the image lacks ") && error.contains("libc.so"), "{error}");
    }
}
