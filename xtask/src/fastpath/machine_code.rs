// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a function could call, from its machine code as objdump prints it.
//!
//! Followed are the jumps from the beginning of the function. So what only unwinding leads to (the
//! destructors, should a cold function panic) is not a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::command;
use crate::error::{Context, Result};
use crate::vm::Instruments;

pub(super) struct MachineCode {
    functions: BTreeMap<String, Vec<Instruction>>,
    /// The names of the functions by their addresses.
    names: BTreeMap<u64, String>,
    /// What the words are that the loader fills in, by their addresses: of functions, mostly.
    loaded: BTreeMap<u64, Loaded>,
}

struct Instruction {
    address: u64,
    text: String,
}

enum Loaded {
    /// An address in this program.
    Here(u64),
    /// Something of a library.
    Named(String),
}

/// Where an instruction leads to, but for the next one.
enum Flow {
    /// Nowhere.
    On,
    /// Not even to the next one.
    End,
    Call(Target),
    Jump(Target),
    Branch(Target),
}

enum Target {
    Address(u64),
    /// To the address that is in the word there.
    Through(u64),
    /// It cannot be told.
    Unknown,
}

/// Words before an instruction that say nothing about where it leads.
const PREFIXES: [&str; 8] = [
    "bnd", "notrack", "repz", "repnz", "addr32", "data16", "rex.W", "cs",
];

impl MachineCode {
    pub(super) fn read(instruments: &Instruments, program: &Path) -> Result<Self> {
        let objdump =
            |options: &[&str]| command::output(instruments.objdump()?.args(options).arg(program));
        let code = objdump(&["--disassemble", "--demangle", "--no-show-raw-insn", "-w"])?;
        Ok(Self::parse(&code, &objdump(&["--dynamic-reloc"])?))
    }

    fn parse(code: &str, relocations: &str) -> Self {
        let mut functions = BTreeMap::<String, Vec<Instruction>>::new();
        let mut names = BTreeMap::new();
        let mut name = "";
        for line in code.lines() {
            if let Some((address, function)) = heading(line) {
                name = function;
                names.insert(address, name.to_owned());
                // Several functions may have one name, without the hashes; those of interest have
                // names of their own.
                functions.insert(name.to_owned(), Vec::new());
            } else if let Some((address, text)) = instruction(line)
                && let Some(function) = functions.get_mut(name)
            {
                function.push(Instruction {
                    address,
                    text: text.to_owned(),
                });
            }
        }
        Self {
            functions,
            names,
            loaded: relocations.lines().filter_map(relocation).collect(),
        }
    }

    /// The names of all that `function` could call.
    pub(super) fn calls(&self, function: &str) -> Result<BTreeSet<String>> {
        let code = self.functions.get(function);
        let code = code.context(|| format!("there is no function {function}"))?;
        let at = |address| code.binary_search_by_key(&address, |instruction| instruction.address);
        let mut calls = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            if !seen.insert(index) {
                continue;
            }
            let instruction = code.get(index);
            let instruction = instruction.context(|| "it goes on behind its end")?;
            let flow = flow(&instruction.text);
            match flow {
                Flow::On | Flow::Branch(_) => next.push(index + 1),
                // A function may end with a call that never returns.
                Flow::Call(_) if index + 1 < code.len() => next.push(index + 1),
                Flow::Call(_) | Flow::Jump(_) | Flow::End => {}
            }
            match flow {
                Flow::On | Flow::End => {}
                Flow::Call(target) => {
                    calls.insert(self.name(&target, instruction)?);
                }
                Flow::Jump(target) | Flow::Branch(target) => match target {
                    Target::Address(address) if at(address).is_ok() => next.extend(at(address)),
                    // The last call of a function may be a jump.
                    target => {
                        calls.insert(self.name(&target, instruction)?);
                    }
                },
            }
        }
        Ok(calls)
    }

    fn name(&self, target: &Target, instruction: &Instruction) -> Result<String> {
        let address = match target {
            Target::Address(address) => Some(address),
            Target::Through(word) => match self.loaded.get(word) {
                Some(Loaded::Named(name)) => return Ok(name.clone()),
                Some(Loaded::Here(address)) => Some(address),
                None => None,
            },
            Target::Unknown => None,
        };
        let name = address.and_then(|address| self.names.get(address));
        name.cloned()
            .context(|| format!("it cannot be told where this leads: {}", instruction.text))
    }
}

/// `0000000000064ad0 <name>:`
fn heading(line: &str) -> Option<(u64, &str)> {
    let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
    Some((hexadecimal(address)?, name))
}

/// `   64ad0:\tmov    (%rdi),%rax`
fn instruction(line: &str) -> Option<(u64, &str)> {
    let (address, text) = line.split_once(":\t")?;
    Some((hexadecimal(address.trim_start())?, text))
}

/// `0000000000068d78 R_X86_64_RELATIVE  *ABS*+0x000000000005f380`, or a name with its version.
fn relocation(line: &str) -> Option<(u64, Loaded)> {
    let mut words = line.split_whitespace();
    let address = hexadecimal(words.next()?)?;
    let (_kind, value) = (words.next()?, words.next()?);
    Some((
        address,
        match value.strip_prefix("*ABS*+0x") {
            Some(value) => Loaded::Here(hexadecimal(value)?),
            None => Loaded::Named(value.split('@').next()?.to_owned()),
        },
    ))
}

fn flow(text: &str) -> Flow {
    let mut words = text.split_whitespace();
    let operation = words
        .find(|word| !PREFIXES.contains(word))
        .unwrap_or_default();
    match operation {
        "ret" | "ud2" | "int3" | "hlt" => Flow::End,
        "call" => Flow::Call(target(text, words.next())),
        "jmp" => Flow::Jump(target(text, words.next())),
        _ if operation.starts_with('j') => Flow::Branch(target(text, words.next())),
        _ => Flow::On,
    }
}

/// `64b2a <name+0x1a>`, or `*0x4242(%rip)        # 68d78 <name>`, or a register.
fn target(text: &str, operand: Option<&str>) -> Target {
    let operand = operand.unwrap_or_default();
    if !operand.starts_with('*') {
        return hexadecimal(operand).map_or(Target::Unknown, Target::Address);
    }
    let word = text.split_once('#').filter(|_| operand.ends_with("(%rip)"));
    let word = word.and_then(|(_, word)| hexadecimal(word.split_whitespace().next()?));
    word.map_or(Target::Unknown, Target::Through)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "
0000000000001000 <quick>:
    1000:\tcmp    %rdi,(%rsi)
    1003:\tjne    1010 <quick+0x10>
    1005:\tjmp    *0x20(%rip)        # 3000 <_DYNAMIC+0x10>
    100b:\tcall   2000 <only::unwinding>
    1010:\tbnd call *0x30(%rip)        # 3008 <_DYNAMIC+0x18>
    1017:\tcall   2010 <<A as B>::slow>
    101c:\tret

0000000000001100 <hidden>:
    1100:\tcall   *%rax
    1102:\tret

0000000000001200 <tail>:
    1200:\tjmp    2010 <<A as B>::slow>

0000000000002000 <only::unwinding>:
    2000:\tud2

0000000000002010 <<A as B>::slow>:
    2010:\tcall   2000 <only::unwinding>
";

    const RELOCATIONS: &str = "
DYNAMIC RELOCATION RECORDS
OFFSET           TYPE              VALUE
0000000000003000 R_X86_64_GLOB_DAT  memcpy@GLIBC_2.14
0000000000003008 R_X86_64_RELATIVE  *ABS*+0x0000000000002000
";

    fn calls(name: &str) -> Result<BTreeSet<String>> {
        MachineCode::parse(CODE, RELOCATIONS).calls(name)
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn calls_are_found_direct_through_a_word_and_as_a_jump() {
        let expected = names(&["<A as B>::slow", "memcpy", "only::unwinding"]);
        assert_eq!(calls("quick").unwrap(), expected);
        assert_eq!(calls("tail").unwrap(), names(&["<A as B>::slow"]));
    }

    #[test]
    fn what_no_jump_leads_to_is_left_out() {
        // Without the word, the other way to it is left.
        let code = CODE.replace("bnd call *0x30(%rip)        # 3008 <_DYNAMIC+0x18>", "nop");
        let calls = MachineCode::parse(&code, RELOCATIONS).calls("quick");
        assert!(!calls.unwrap().contains("only::unwinding"));
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        assert!(calls("hidden").is_err());
        assert!(calls("missing").is_err());
    }
}
