// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unpacks the kernel once, on the host: the guest's emulated CPU takes seconds to do it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use super::tools::Tools;
use crate::error::{Context, Error, Result};

/// Offsets in the header of the x86 boot protocol.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// How a payload begins, and the program that unpacks it.
const PACKERS: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),
];

/// Unpacks `image` into `vmlinux`.
pub(crate) fn unpack(image: &Path, tools: &Tools, vmlinux: &Path) -> Result<()> {
    let bytes = std::fs::read(image).context(|| format!("cannot read {}", image.display()))?;
    let payload = payload(&bytes).context(|| format!("{} is no bzImage", image.display()))?;
    let (_, packer) = PACKERS
        .iter()
        .find(|(magic, _)| payload.starts_with(magic))
        .context(|| format!("{} is packed in an unknown way", image.display()))?;
    let output = File::create(vmlinux).context(|| format!("cannot make {}", vmlinux.display()))?;
    let mut child = tools
        .program(packer)?
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .context(|| format!("cannot run {packer}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It stops reading at the end of the stream, and its exit code says more than EPIPE.
        let _ = stdin.write_all(payload);
    }
    let status = child.wait().context(|| format!("waiting for {packer}"))?;
    let is_elf = std::fs::read(vmlinux).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
    if status.success() && is_elf {
        return Ok(());
    }
    Err(Error::new(format!(
        "cannot unpack {}: {status}",
        image.display()
    )))
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + number(image, PAYLOAD_OFFSET)?;
    // The last four bytes are the unpacked size.
    let length = number(image, PAYLOAD_LENGTH)?.checked_sub(4)?;
    image.get(start..start.checked_add(length)?)
}

fn number(image: &[u8], offset: usize) -> Option<usize> {
    let bytes = image.get(offset..offset + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[SETUP_SECTS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16u32.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&9u32.to_le_bytes());
        image[1024 + 16..1024 + 21].copy_from_slice(b"hello");
        image
    }

    #[test]
    fn the_payload_is_what_the_header_says() {
        assert_eq!(payload(&image()), Some(&b"hello"[..]));
    }

    #[test]
    fn a_truncated_image_has_no_payload() {
        let image = image();
        assert_eq!(payload(&image[..1030]), None);
        assert_eq!(payload(&image[..100]), None);
        assert_eq!(payload(&[]), None);
    }
}
