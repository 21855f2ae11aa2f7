// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random numbers of the processor, which no snapshot has in it.

/// An instruction that returns random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// x86-64: seeds.
    Rdseed,
    /// x86-64: numbers of a generator in the processor, which it reseeds from the same source.
    Rdrand,
    /// arm64: numbers of a generator in the processor, reseeded for each.
    Rndrrs,
}

impl Instruction {
    /// Those of this machine's architecture, the best first.
    pub const EACH: [Self; 3] = [Self::Rdseed, Self::Rdrand, Self::Rndrrs];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rdseed => "rdseed",
            Self::Rdrand => "rdrand",
            Self::Rndrrs => "rndrrs",
        }
    }

    /// Whether this processor has it.
    #[must_use]
    pub fn is_there(self) -> bool {
        machine::has(self)
    }

    /// A number; `None` if the processor has none at the moment, or does not have the instruction.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        if !self.is_there() {
            return None;
        }
        machine::number(self)
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use core::arch::x86_64::{_rdrand64_step, _rdseed64_step};
    use std::arch::is_x86_feature_detected;

    use super::Instruction;

    pub(super) fn has(instruction: Instruction) -> bool {
        match instruction {
            Instruction::Rdseed => is_x86_feature_detected!("rdseed"),
            Instruction::Rdrand => is_x86_feature_detected!("rdrand"),
            Instruction::Rndrrs => false,
        }
    }

    /// Of an instruction that the processor has.
    pub(super) fn number(instruction: Instruction) -> Option<u64> {
        let mut number = 0;
        let step = match instruction {
            // SAFETY: The caller has asked the processor whether it has the instruction, which does
            // nothing but write a number to where `number` is.
            Instruction::Rdseed => unsafe { _rdseed64_step(&mut number) },
            // SAFETY: As above.
            Instruction::Rdrand => unsafe { _rdrand64_step(&mut number) },
            Instruction::Rndrrs => 0,
        };
        (step == 1).then_some(number)
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use core::arch::asm;
    use std::arch::is_aarch64_feature_detected;

    use super::Instruction;

    pub(super) fn has(instruction: Instruction) -> bool {
        instruction == Instruction::Rndrrs && is_aarch64_feature_detected!("rand")
    }

    /// Of an instruction that the processor has.
    pub(super) fn number(_: Instruction) -> Option<u64> {
        let (number, is_valid): (u64, u64);
        // SAFETY: The caller has asked the processor whether it has FEAT_RNG, with which this register
        // (RNDRRS) can be read from user space. Reading it touches no memory and no stack. It sets the
        // condition flags, Z if there is no number, which the second instruction reads and which the
        // compiler takes for overwritten.
        unsafe {
            asm!(
                "mrs {number}, s3_3_c2_c4_1",
                "cset {is_valid}, ne",
                number = out(reg) number,
                is_valid = out(reg) is_valid,
                options(nomem, nostack),
            );
        }
        (is_valid == 1).then_some(number)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod machine {
    use super::Instruction;

    pub(super) fn has(_: Instruction) -> bool {
        false
    }

    pub(super) fn number(_: Instruction) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_that_is_there_gives_numbers_that_differ() {
        for instruction in Instruction::EACH {
            let mut numbers: Vec<_> = (0..10_000).filter_map(|_| instruction.number()).collect();
            assert_eq!(instruction.is_there(), !numbers.is_empty());
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{}", instruction.name());
        }
    }
}
