//! Tables in docs/ that are written by the commands they are of.

use std::path::Path;

use anyhow::Context as _;

/// Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->` on a page of docs/.
pub(crate) fn write(root: &Path, page: &str, name: &str, lines: &[String]) -> anyhow::Result<()> {
    let text = read(root, page)?;
    let (head, _, tail) = split(&text, name)?;
    let path = root.join("docs").join(page);
    std::fs::write(&path, format!("{head}{}\n{tail}", lines.join("\n")))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The text of a page of docs/.
pub(crate) fn read(root: &Path, page: &str) -> anyhow::Result<String> {
    let path = root.join("docs").join(page);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// What stands before, between and after the markers.
pub(crate) fn split<'a>(text: &'a str, name: &str) -> anyhow::Result<(&'a str, &'a str, &'a str)> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let places = text.find(&begin).zip(text.find(&end));
    let parts = places.and_then(|(from, to)| {
        let from = from + begin.len();
        Some((text.get(..from)?, text.get(from..to)?, text.get(to..)?))
    });
    parts.with_context(|| format!("expected `{}` and `{end}` on the page", begin.trim()))
}
