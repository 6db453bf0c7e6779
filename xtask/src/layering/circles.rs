//! Files of one crate that use each other in a circle: none of them can be read, changed or tested without the others.
//!
//! A file uses another one when one of its paths leads to an item that is defined there. Names are followed through `use`
//! and re-exports to the definition, so that a `mod.rs` that only hands names on uses nothing. A module and those below it are
//! one part: they may share what the module defines. Parts beside each other may not form a circle, whichever of their files
//! does it. Tests are left out: those of a module may build whatever they need. What a method call leads to is not known
//! without types, and is not looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, UseTree, Visibility};

/// Parts beside each other that use each other in a circle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// The file of each part; what is below it belongs to it.
    files: Vec<PathBuf>,
    uses: Vec<Use>,
}

/// One file uses an item of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    from: PathBuf,
    to: PathBuf,
    name: String,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        write!(f, "{} parts use each other: {}", files.len(), files.join(", "))?;
        let mut uses: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Use { from, to, name } in &self.uses {
            uses.entry((from, to)).or_default().insert(name.as_str());
        }
        for ((from, to), names) in uses {
            let names: Vec<_> = names.into_iter().collect();
            write!(f, "\n      {} uses {} of {}", from.display(), names.join(", "), to.display())?;
        }
        Ok(())
    }
}

/// The circles among the files of a crate. `root` is its `lib.rs` or `main.rs`, `shown_below` what paths are shown without.
pub(super) fn find(root: &Path, shown_below: &Path) -> anyhow::Result<Vec<Circle>> {
    let mut tree = Tree { shown_below, files: Vec::new(), above: Vec::new(), modules: Vec::new() };
    let directory = root.parent().context("a crate's root is in a directory")?;
    tree.load(root, directory, None)?;
    Ok(tree.circles())
}

/// The modules of a crate; the first one is its root.
struct Tree<'a> {
    shown_below: &'a Path,
    files: Vec<PathBuf>,
    /// The file that declares each file.
    above: Vec<Option<usize>>,
    modules: Vec<Module>,
}

#[derive(Default)]
struct Module {
    /// Index in [`Tree::files`].
    file: usize,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    /// Items that are defined here.
    items: BTreeSet<String>,
    /// What `use` binds, and to which path.
    bindings: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Paths in the code, without those that are only handed on.
    paths: BTreeSet<Vec<String>>,
}

/// The definition that a path leads to.
#[derive(Clone, Copy)]
enum Found {
    Module(usize),
    ItemOf(usize),
}

impl Tree<'_> {
    /// Reads a file and the modules that it declares; `directory` is where those are.
    fn load(&mut self, file: &Path, directory: &Path, parent: Option<usize>) -> anyhow::Result<usize> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("parse {}", file.display()))?;
        self.files.push(file.to_owned());
        self.above.push(parent.map(|parent| self.modules[parent].file));
        self.add(self.files.len() - 1, parsed.items, directory, parent)
    }

    fn add(
        &mut self,
        file: usize,
        items: Vec<Item>,
        directory: &Path,
        parent: Option<usize>,
    ) -> anyhow::Result<usize> {
        let index = self.modules.len();
        self.modules.push(Module { file, parent, ..Module::default() });
        let mut module = Module { file, parent, ..Module::default() };
        for item in items {
            if is_of_tests(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(ItemMod { ident, content, attrs, .. }) => {
                    let name = ident.to_string();
                    let below = directory.join(&name);
                    let child = match content {
                        Some((_, items)) => self.add(file, items, &below, Some(index))?,
                        None => {
                            let flat = directory.join(format!("{name}.rs"));
                            let (path, below) = match placed(&attrs) {
                                Some(place) => {
                                    let path = self.files[file].with_file_name(place);
                                    let below = path.parent().unwrap_or(directory).to_owned();
                                    (path, below)
                                }
                                None if flat.is_file() => (flat, below),
                                None => (below.join("mod.rs"), below),
                            };
                            self.load(&path, &below, Some(index))?
                        }
                    };
                    module.children.insert(name, child);
                }
                Item::Use(item) => {
                    let is_handed_on = !matches!(item.vis, Visibility::Inherited);
                    module.bind(Vec::new(), &item.tree, is_handed_on);
                }
                item => {
                    module.items.extend(name_of(&item));
                    module.visit_item(&item);
                }
            }
        }
        self.modules[index] = module;
        Ok(index)
    }

    /// What a path in a module leads to; `None` when it leads out of the crate.
    fn resolve(&self, module: usize, path: &[String], depth: usize) -> Option<Found> {
        // `use` may bind names in a circle.
        let depth = depth.checked_sub(1)?;
        let (mut at, rest) = match path.split_first()? {
            (first, rest) if first == "crate" => (Found::Module(0), rest),
            (first, rest) if first == "self" => (Found::Module(module), rest),
            (first, _) if first == "super" => {
                let supers = path.iter().take_while(|segment| *segment == "super").count();
                let at = (0..supers).try_fold(module, |at, _| self.modules[at].parent)?;
                (Found::Module(at), &path[supers..])
            }
            (first, rest) => (self.name(module, first, depth)?, rest),
        };
        for segment in rest {
            match at {
                Found::ItemOf(_) => break,
                Found::Module(inside) => at = self.name(inside, segment, depth)?,
            }
        }
        Some(at)
    }

    fn name(&self, module: usize, name: &str, depth: usize) -> Option<Found> {
        let here = &self.modules[module];
        if here.items.contains(name) {
            return Some(Found::ItemOf(here.file));
        }
        if let Some(child) = here.children.get(name) {
            return Some(Found::Module(*child));
        }
        if let Some(path) = here.bindings.get(name) {
            // `use name::Item` binds what is outside, and not itself.
            return if path.first().is_some_and(|first| first == name) {
                None
            } else {
                self.resolve(module, path, depth)
            };
        }
        here.globs.iter().find_map(|glob| match self.resolve(module, glob, depth)? {
            Found::Module(of) if of != module => self.name(of, name, depth.checked_sub(1)?),
            Found::Module(_) | Found::ItemOf(_) => None,
        })
    }

    fn shown(&self, file: usize) -> PathBuf {
        let file = &self.files[file];
        file.strip_prefix(self.shown_below).unwrap_or(file).to_owned()
    }

    /// From the root to a file.
    fn chain(&self, file: usize) -> Vec<usize> {
        let mut chain = vec![file];
        let mut above = self.above[file];
        while let Some(file) = above {
            chain.push(file);
            above = self.above[file];
        }
        chain.reverse();
        chain
    }

    fn circles(&self) -> Vec<Circle> {
        const DEPTH: usize = 16;
        // Between files beside each other: which, and by which of the files below them.
        let mut uses: BTreeMap<usize, BTreeMap<usize, Vec<Use>>> = BTreeMap::new();
        for (index, module) in self.modules.iter().enumerate() {
            for path in &module.paths {
                let Some(Found::ItemOf(to)) = self.resolve(index, path, DEPTH) else { continue };
                let (from_chain, to_chain) = (self.chain(module.file), self.chain(to));
                let apart = from_chain.iter().zip(&to_chain).find(|(from, to)| from != to);
                if let (Some((from_part, to_part)), Some(name)) = (apart, path.last()) {
                    let (from, to) = (self.shown(module.file), self.shown(to));
                    let used = Use { from, to, name: name.clone() };
                    uses.entry(*from_part).or_default().entry(*to_part).or_default().push(used);
                }
            }
        }
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|from| reached(&uses, from)).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for part in 0..self.files.len() {
            let parts: BTreeSet<usize> =
                reached[part].iter().copied().filter(|other| reached[*other].contains(&part)).collect();
            if parts.is_empty() || !seen.insert(parts.clone()) {
                continue;
            }
            let of_parts = parts.iter().flat_map(|part| &uses[part]);
            let within = of_parts.filter(|(to, _)| parts.contains(to)).flat_map(|(_, uses)| uses.clone());
            let files = parts.iter().map(|part| self.shown(*part)).collect();
            circles.push(Circle { files, uses: within.collect() });
        }
        circles
    }
}

/// All that a part uses, and what that uses.
fn reached(uses: &BTreeMap<usize, BTreeMap<usize, Vec<Use>>>, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(part) = open.pop() {
        for to in uses.get(&part).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}

impl Module {
    /// Notes what a `use` binds. One that hands names on is no use of them.
    fn bind(&mut self, mut path: Vec<String>, tree: &UseTree, is_handed_on: bool) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.bind(path, &inner.tree, is_handed_on);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.bind(path.clone(), tree, is_handed_on);
                }
            }
            UseTree::Glob(_) => self.globs.push(path),
            UseTree::Name(name) => {
                // `use a::{self}` binds `a`.
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                if let Some(bound) = path.last().cloned() {
                    self.bound(bound, path, is_handed_on);
                }
            }
            UseTree::Rename(renamed) => {
                if renamed.ident != "self" {
                    path.push(renamed.ident.to_string());
                }
                self.bound(renamed.rename.to_string(), path, is_handed_on);
            }
        }
    }

    fn bound(&mut self, name: String, path: Vec<String>, is_handed_on: bool) {
        if !is_handed_on {
            self.paths.insert(path.clone());
        }
        self.bindings.insert(name, path);
    }

    /// Paths in what a macro is given.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.paths.insert(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.scan(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.paths.insert(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.paths.insert(path);
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.scan(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // In a function: what it binds there is bound for the whole module here.
        self.bind(Vec::new(), &item.tree, false);
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// The file that a module has by `#[path = "…"]`.
fn placed(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            path,
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(place), .. }),
            ..
        }) if path.is_ident("path") => Some(place.value()),
        _ => None,
    })
}

/// Whether it is compiled for tests alone.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files, as they are shown.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        find(&dir.path().join("lib.rs"), dir.path()).unwrap().iter().map(Circle::to_string).collect()
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;");

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        for uses_a in [
            "use crate::a::A; fn f(_: A) {}",
            "use crate::A; fn f(_: A) {}",
            "use super::a; fn f(_: a::A) {}",
            "fn f() { let _ = crate::a::A; }",
            "fn f() { println!(\"{}\", crate::a::A); }",
            "#[with(other = super::A)] fn f() {}",
            "fn f() { use crate::a; a::A; }",
            "mod inner { use super::super::a::*; fn f(_: A) {} }",
        ] {
            let b = format!("pub struct B;\n{uses_a}");
            let found = circles(&[ROOT, ("a.rs", "pub struct A;\nfn f(_: crate::B) {}"), ("b.rs", &b)]);
            let expected =
                "2 parts use each other: a.rs, b.rs\n      a.rs uses B of b.rs\n      b.rs uses A of a.rs";
            assert_eq!(found, [expected], "{uses_a}");
        }
    }

    #[test]
    fn what_is_below_a_file_belongs_to_it() {
        let a = ("a/mod.rs", "mod x;\npub struct A;");
        let x = ("a/x.rs", "use super::A;\nuse crate::b::B;\npub fn f(_: A, _: B) {}");
        let b = |text| [ROOT, a, x, ("b.rs", text)];
        assert_eq!(circles(&b("pub struct B;")), [""; 0]);
        let found = circles(&b("pub struct B;\nfn f(_: crate::a::A) {}"));
        assert!(found[0].ends_with("a/x.rs uses B of b.rs\n      b.rs uses A of a/mod.rs"), "{found:?}");
    }

    #[test]
    fn tests_and_what_is_handed_on_are_no_use() {
        let a = "pub use crate::b::B;\npub struct A;";
        for b in [
            "pub struct B;\n#[cfg(test)] mod tests { use crate::a::A; fn f(_: A) {} }",
            "pub struct B;\n#[cfg(test)] use crate::a::A;",
            "pub struct B;\n/// [`crate::a::A`]\nfn f() {}",
            "pub struct B;\nfn f(_: crate::a::B) {}",
            "pub struct B;\nuse other::a::A; fn f(_: A) {}",
        ] {
            assert_eq!(circles(&[ROOT, ("a.rs", a), ("b.rs", b)]), [""; 0], "{b}");
        }
        let used = "pub struct B;\nfn f(_: crate::a::A) {}";
        assert_eq!(circles(&[ROOT, ("a.rs", &format!("{a}\nfn f(_: B) {{}}")), ("b.rs", used)]).len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lib.rs"), "mod missing;").unwrap();
        let error = find(&dir.path().join("lib.rs"), dir.path()).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
