//! Enums as texts.

/// A text that is the name of none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, found {found:?}", .expected.join(", "))]
pub struct UnknownName {
    pub(crate) expected: Vec<&'static str>,
    pub(crate) found: String,
}

/// Gives an enum its names, which are those that serde writes.
macro_rules! named {
    ($enum:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $enum {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// As it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $enum {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, $crate::UnknownName> {
                Self::ALL.into_iter().find(|known| known.name() == text).ok_or_else(|| $crate::UnknownName {
                    expected: Self::ALL.map(Self::name).to_vec(),
                    found: text.to_owned(),
                })
            }
        }
    };
}

pub(crate) use named;
