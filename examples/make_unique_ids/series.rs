// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::UNIX_EPOCH;

use rand::RngExt;
use uuid::{Builder, Uuid};

/// UUIDs of version 7 in their order: those of one millisecond count on from a random number.
#[derive(Default)]
pub(crate) struct Series {
    millisecond: u64,
    head: [u8; 2],
    count: u64,
}

impl Series {
    pub(crate) fn next_v7(&mut self) -> Uuid {
        let now = UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis());
        let now = u64::try_from(now).unwrap_or(0);
        if now > self.millisecond {
            // Not from uuid, which calls the C library's getrandom: a restored process may have a copy
            // of the state of that.
            *self = Self {
                millisecond: now,
                head: sysgenid::rng().random(),
                count: sysgenid::rng().random::<u64>() >> 3, // the variant takes two bits
            };
        } else {
            self.count += 1;
        }
        let mut random = [0; 10];
        random[..2].copy_from_slice(&self.head);
        random[2..].copy_from_slice(&self.count.to_be_bytes());
        Builder::from_unix_timestamp_millis(self.millisecond, &random).into_uuid()
    }
}
