//! The packages that end up in a program, and who needs whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Packages of a program, itself included.
pub(super) struct Packages {
    pub(super) program: PackageId,
    packages: BTreeMap<PackageId, Package>,
    needs: BTreeMap<PackageId, Vec<PackageId>>,
}

impl Packages {
    /// Those of `pitstop` on a machine.
    pub(super) fn of_program(root: &Path, target: &str) -> anyhow::Result<Self> {
        let mut command = MetadataCommand::new();
        command.manifest_path(root.join("Cargo.toml"));
        command.other_options(["--locked".to_owned(), "--filter-platform".into(), target.into()]);
        Self::within(&command.exec().context("cargo metadata")?, "pitstop")
    }

    /// Those of the updater for a chip.
    pub(super) fn of_updater(root: &Path, chip: &str) -> anyhow::Result<Self> {
        let mut command = MetadataCommand::new();
        command.manifest_path(root.join("firmware/updater/Cargo.toml"));
        command.features(CargoOpt::NoDefaultFeatures);
        command.features(CargoOpt::SomeFeatures(vec![chip.to_owned(), "wifi".into()]));
        command.other_options(["--locked".to_owned()]);
        Self::within(&command.exec().context("cargo metadata of the firmware")?, "updater-firmware")
    }

    /// What is compiled into the package of this name: no build scripts' packages, no tests'.
    fn within(metadata: &Metadata, name: &str) -> anyhow::Result<Self> {
        let of_name = |package: &&Package| package.name.as_str() == name;
        let program =
            metadata.packages.iter().find(of_name).context("the package is not in its workspace")?;
        let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
        let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut needs = BTreeMap::new();
        let mut ahead = BTreeSet::from([program.id.clone()]);
        while let Some(id) = ahead.pop_first() {
            let node = nodes.get(&id).with_context(|| format!("{id} is not resolved"))?;
            let is_compiled_in = |dependency: &&cargo_metadata::NodeDep| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            };
            let needed: Vec<_> = node.deps.iter().filter(is_compiled_in).map(|one| one.pkg.clone()).collect();
            ahead.extend(needed.iter().filter(|needed| !needs.contains_key(*needed)).cloned());
            needs.insert(id, needed);
        }
        let packages = metadata.packages.iter().filter(|package| needs.contains_key(&package.id));
        let packages = packages.map(|package| (package.id.clone(), package.clone())).collect();
        Ok(Self { program: program.id.clone(), packages, needs })
    }

    /// Each package with those that it needs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Package, &[PackageId])> {
        let needs = |id: &PackageId| self.needs.get(id).map_or(&[][..], Vec::as_slice);
        self.packages.iter().map(move |(id, package)| (package, needs(id)))
    }

    /// All but the repository's own.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.source.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_what_is_compiled_into_it_and_nothing_of_its_tests() {
        let packages = Packages::of_program(crate::repository_root(), "x86_64-unknown-linux-gnu").unwrap();
        let names: BTreeSet<_> = packages.iter().map(|(package, _)| package.name.to_string()).collect();
        assert!(["pitstop", "server", "rustls", "sqlx-core"].iter().all(|name| names.contains(*name)));
        // Of tests, of a build script, of another system.
        assert!(["insta", "cc", "windows-sys"].iter().all(|name| !names.contains(*name)), "{names:?}");
        assert!(packages.foreign().all(|package| package.name.as_str() != "server"));
    }
}
