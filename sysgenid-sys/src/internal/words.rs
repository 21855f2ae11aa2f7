// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes as the words that a generator of random numbers writes.

/// Splits `bytes` into blocks of `N` words, and what is before and after them: fewer than four bytes,
/// and less than a block. On any machine the words consist of the bytes that are there.
///
/// ```
/// let mut bytes = [0; 1024];
/// let (before, blocks, after) = sysgenid_sys::internal::words::split::<64>(&mut bytes);
/// assert!(before.len() < 4 && blocks.len() >= 3);
/// assert_eq!(before.len() + 256 * blocks.len() + after.len(), 1024);
/// ```
#[must_use]
pub fn split<const N: usize>(bytes: &mut [u8]) -> (&mut [u8], &mut [[u32; N]], &mut [u8]) {
    // SAFETY: Any four bytes are a word, and the other way round; an array of words has nothing else in
    // it. The three parts do not overlap, and are borrowed as long as `bytes` is.
    unsafe { bytes.align_to_mut() }
}
