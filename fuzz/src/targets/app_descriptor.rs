//! Any bytes as an app descriptor; an odd first byte gives them the magic word.

use flashfmt::AppDescriptor;
use flashfmt::app_desc::APP_DESC_MAGIC;

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (choice, bytes) = crate::choice(data);
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        bytes.splice(..bytes.len().min(4), APP_DESC_MAGIC.to_le_bytes());
    }
    let Ok(descriptor) = AppDescriptor::parse(&bytes) else { return };
    assert_eq!(AppDescriptor::parse(&descriptor.emit()), Ok(descriptor));
    for text in [descriptor.version.as_str(), descriptor.project_name.as_str(), descriptor.idf_ver.as_str()] {
        assert!(text.len() <= 32 && !text.contains('\0'), "{text:?}");
    }
}
