//! docs/reliability.md: tables that are written by the commands they are of.

use std::path::Path;

use anyhow::Context as _;

/// Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->`.
pub(crate) fn write(root: &Path, name: &str, lines: &[String]) -> anyhow::Result<()> {
    let path = root.join("docs/reliability.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (head, _, tail) = split(&text, name)?;
    std::fs::write(&path, format!("{head}{}\n{tail}", lines.join("\n")))?;
    Ok(())
}

/// What stands before, between and after the markers.
pub(crate) fn split<'a>(text: &'a str, name: &str) -> anyhow::Result<(&'a str, &'a str, &'a str)> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let places = text.find(&begin).zip(text.find(&end));
    let parts = places.and_then(|(from, to)| {
        let from = from + begin.len();
        Some((text.get(..from)?, text.get(from..to)?, text.get(to..)?))
    });
    parts.with_context(|| format!("expected `{}` and `{end}` in docs/reliability.md", begin.trim()))
}
