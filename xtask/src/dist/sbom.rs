//! A bill of materials: CycloneDX 1.5 as JSON (ECMA-424).

use anyhow::{Context as _, ensure};
use cargo_metadata::{Package, PackageId};
use cyclonedx_bom::models::component::Classification;
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::prelude::{Bom, Component, Components, DateTime, Metadata, Purl, UrnUuid, Validate as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::packages::Packages;

/// The bill of materials of a program, of this time.
pub(super) fn of(packages: &Packages, at_s: u64) -> anyhow::Result<Vec<u8>> {
    let mut program = None;
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (package, needs) in packages.iter() {
        dependencies.push(Dependency {
            dependency_ref: reference(&package.id),
            dependencies: needs.iter().map(reference).collect(),
        });
        if package.id == packages.program {
            program = Some(component(package, Classification::Application)?);
        } else {
            components.push(component(package, Classification::Library)?);
        }
    }
    let program = program.context("a program is not among its own packages")?;
    let at = i64::try_from(at_s).ok().and_then(|at_s| OffsetDateTime::from_unix_timestamp(at_s).ok());
    let at = at.context("the time of the commit is out of range")?.format(&Rfc3339)?;
    let bom = Bom {
        serial_number: Some(serial_number(&components, &at)?),
        metadata: Some(Metadata {
            timestamp: Some(DateTime::try_from(at)?),
            component: Some(program),
            ..Metadata::default()
        }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        ..Bom::default()
    };
    let checked = bom.validate();
    ensure!(checked.passed(), "the bill of materials is not of the standard's form: {checked:?}");
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json)?;
    Ok(json)
}

fn component(package: &Package, kind: Classification) -> anyhow::Result<Component> {
    let version = package.version.to_string();
    let mut component = Component::new(kind, &package.name, &version, Some(reference(&package.id)));
    // What is in no registry has no address in one.
    if package.source.is_some() {
        component.purl = Some(Purl::new("cargo", &package.name, &version)?);
    }
    // Old packages have `/` where SPDX has `OR`.
    let expression = package.license.as_ref().map(|license| license.replace('/', " OR "));
    component.licenses = expression.map(|license| Licenses(vec![LicenseChoice::expression(&license)]));
    Ok(component)
}

/// How a document names a package. Cargo's own name of it would tell where the repository is on this machine.
fn reference(id: &PackageId) -> String {
    let name = id.repr.rsplit('/').next().unwrap_or(&id.repr);
    name.replace('#', "@")
}

/// The same for the same content (RFC 9562, version 8).
fn serial_number(components: &[Component], at: &str) -> anyhow::Result<UrnUuid> {
    let mut hasher = Sha256::new();
    hasher.update(at);
    for component in components {
        hasher.update(component.bom_ref.as_deref().unwrap_or_default());
    }
    let mut bytes = hasher.finalize();
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = super::hex(&bytes[..16]);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    UrnUuid::new(format!("urn:uuid:{}", parts.join("-"))).ok().context("a serial number is not of its form")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_names_every_package_its_licence_and_what_it_needs() {
        let packages = Packages::of_program(crate::repository_root(), "x86_64-unknown-linux-gnu").unwrap();
        let json = of(&packages, 1_700_000_000).unwrap();
        assert_eq!(json, of(&packages, 1_700_000_000).unwrap(), "the same again");
        let document: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(document["specVersion"], "1.5");
        assert_eq!(document["metadata"]["component"]["name"], "pitstop");
        assert_eq!(document["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        let components = document["components"].as_array().unwrap();
        assert_eq!(components.len() + 1, packages.iter().count());
        let rustls = components.iter().find(|component| component["name"] == "rustls").unwrap();
        let version = rustls["version"].as_str().unwrap();
        assert_eq!(rustls["purl"], format!("pkg:cargo/rustls@{version}"));
        assert_eq!(rustls["licenses"][0]["expression"], "Apache-2.0 OR ISC OR MIT");
        let dependencies = document["dependencies"].as_array().unwrap();
        let of_rustls = dependencies.iter().find(|one| one["ref"] == rustls["bom-ref"]).unwrap();
        let needs = of_rustls["dependsOn"].as_array().unwrap();
        assert!(needs.iter().any(|one| one.as_str().unwrap().contains("rustls-webpki")), "{needs:?}");
        // Nothing of the machine.
        let root = crate::repository_root().display().to_string();
        assert!(!String::from_utf8(json).unwrap().contains(&root));
    }
}
