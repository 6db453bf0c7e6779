//! Changes that are made only when nobody else was faster (RFC 9110 section 13.1.1).
//!
//! Products, devices and rollouts have a revision that grows by one with every change. A function that changes one of
//! them begins its transaction with `UPDATE … SET revision = revision + 1`: that is the write that takes the row, and
//! what is read after it is still as it was before. Then it compares the revision with [`IfMatch`].

/// The condition under which a change is to be made: the value of `If-Match`, if there was one.
#[derive(Clone, Debug, Default)]
pub(crate) struct IfMatch(pub(crate) Option<String>);

/// How a change of something that has a revision ended.
#[derive(Debug)]
pub(crate) enum Changed<T> {
    Done(T),
    /// Nothing was changed.
    Not(Unchanged),
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Unchanged {
    /// There is no such thing.
    NotFound,
    /// It has another revision than the one that was to be changed.
    Stale { revision: i64 },
}

/// The entity tag of a revision.
pub(crate) fn etag(revision: i64) -> String {
    format!("\"r{revision}\"")
}

impl IfMatch {
    /// Whether something with this revision is to be changed. A weak tag (`W/"r1"`) never fits, as it must be.
    pub(crate) fn allows(&self, revision: i64) -> bool {
        let Self(Some(tags)) = self else { return true };
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag(revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_made_for_its_revision_only() {
        let allows = |tags: &str| IfMatch(Some(tags.to_owned())).allows(7);
        assert!(IfMatch(None).allows(7));
        for tags in ["*", "\"r7\"", "\"r6\", \"r7\""] {
            assert!(allows(tags), "{tags}");
        }
        for tags in ["", "\"r6\"", "W/\"r7\"", "r7", "\"r77\"", "\"r6\",\"r8\""] {
            assert!(!allows(tags), "{tags}");
        }
    }
}
