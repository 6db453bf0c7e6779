//! Structs that are rows of the database.

/// Declares a struct that is read from a row by the names of its fields; those behind `with` are read from columns of the
/// same row that have names of their own.
///
/// In place of sqlx's derive, for which the database drivers are compiled a second time, to run within the compiler.
macro_rules! row {
    (
        $(#[$meta:meta])*
        $visible:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_visible:vis $field:ident: $type:ty,)*
        }
        $(with {
            $($(#[$part_meta:meta])* $part_visible:vis $part:ident: $part_type:ty,)*
        })?
    ) => {
        $(#[$meta])*
        $visible struct $name {
            $($(#[$field_meta])* $field_visible $field: $type,)*
            $($($(#[$part_meta])* $part_visible $part: $part_type,)*)?
        }

        row!(@read sqlx::any::AnyRow, $name { $($field)* } { $($($part)*)? });
        // Questions on SQLite have a driver of their own.
        row!(@read sqlx::sqlite::SqliteRow, $name { $($field)* } { $($($part)*)? });
    };
    (@read $row:ty, $name:ident { $($field:ident)* } { $($part:ident)* }) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self {
                    $($field: sqlx::Row::try_get(row, stringify!($field))?,)*
                    $($part: sqlx::FromRow::from_row(row)?,)*
                })
            }
        }
    };
}
