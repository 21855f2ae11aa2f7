// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a function could call, from its machine code as objdump prints it.
//!
//! Followed are the jumps from the beginning of the function. So what only unwinding leads to (the
//! destructors, should a cold function panic) is not a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::table::Row;
use crate::command;
use crate::error::{Context, Result};
use crate::vm::Instruments;

pub(super) struct MachineCode {
    /// By their addresses: names occur more than once, because they are without what is generic.
    functions: BTreeMap<u64, Function>,
    /// What the words are that the loader fills in, by their addresses: of functions, mostly.
    loaded: BTreeMap<u64, Loaded>,
}

struct Function {
    name: String,
    code: Vec<Instruction>,
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
        let mut functions = BTreeMap::new();
        let mut address = 0;
        for line in code.lines() {
            if let Some((start, name)) = heading(line) {
                address = start;
                let (name, code) = (name.to_owned(), Vec::new());
                functions.insert(start, Function { name, code });
            } else if let Some(instruction) = instruction(line)
                && let Some(function) = functions.get_mut(&address)
            {
                function.code.push(instruction);
            }
        }
        Self {
            functions,
            loaded: relocations.lines().filter_map(relocation).collect(),
        }
    }

    /// The names of all that the path could call, as far as its row lets it be followed.
    pub(super) fn calls(&self, row: &Row) -> Result<BTreeSet<String>> {
        let mut calls = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let path = |(_, function): &(&u64, &Function)| function.name == row.name;
        let start = self.functions.iter().find(path);
        let mut next = vec![*start.context(|| "there is no such function")?.0];
        while let Some(address) = next.pop() {
            let Some(function) = self
                .functions
                .get(&address)
                .filter(|_| seen.insert(address))
            else {
                continue;
            };
            for target in function.calls().context(|| &function.name)? {
                let callee = self.resolve(&target).context(|| {
                    format!("{}: it cannot be told where a call leads", function.name)
                })?;
                let (Callee::Here(_, name) | Callee::Elsewhere(name)) = callee;
                if let Callee::Here(address, name) = callee
                    && row.warm.iter().any(|warm| warm == name)
                {
                    next.push(address);
                }
                calls.insert(name.to_owned());
            }
        }
        Ok(calls)
    }

    fn resolve(&self, target: &Target) -> Option<Callee<'_>> {
        let address = match target {
            Target::Address(address) => *address,
            Target::Through(word) => match self.loaded.get(word)? {
                Loaded::Named(name) => return Some(Callee::Elsewhere(name)),
                Loaded::Here(address) => *address,
            },
            Target::Unknown => return None,
        };
        let function = self.functions.get(&address)?;
        Some(Callee::Here(address, &function.name))
    }
}

/// What is called.
enum Callee<'a> {
    /// A function of this program.
    Here(u64, &'a str),
    /// One of a library.
    Elsewhere(&'a str),
}

impl Function {
    /// What it could call, in what its jumps lead to.
    fn calls(&self) -> Result<Vec<Target>> {
        let code = &self.code;
        let at = |address| code.binary_search_by_key(&address, |instruction| instruction.address);
        let mut calls = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            if !seen.insert(index) {
                continue;
            }
            let instruction = code.get(index);
            let flow = flow(&instruction.context(|| "it goes on behind its end")?.text);
            match flow {
                Flow::On | Flow::Branch(_) => next.push(index + 1),
                // A function may end with a call that never returns.
                Flow::Call(_) if index + 1 < code.len() => next.push(index + 1),
                Flow::Call(_) | Flow::Jump(_) | Flow::End => {}
            }
            match flow {
                Flow::On | Flow::End => {}
                Flow::Call(target) => calls.push(target),
                Flow::Jump(Target::Address(address)) | Flow::Branch(Target::Address(address))
                    if at(address).is_ok() =>
                {
                    next.extend(at(address));
                }
                // The last call of a function may be a jump.
                Flow::Jump(target) | Flow::Branch(target) => calls.push(target),
            }
        }
        Ok(calls)
    }
}

/// `0000000000064ad0 <name>:`
fn heading(line: &str) -> Option<(u64, &str)> {
    let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
    Some((hexadecimal(address)?, name))
}

/// `   64ad0:\tmov    (%rdi),%rax`
fn instruction(line: &str) -> Option<Instruction> {
    let (address, text) = line.split_once(":\t")?;
    Some(Instruction {
        address: hexadecimal(address.trim_start())?,
        text: text.to_owned(),
    })
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

    /// What `name` could call, in one line.
    fn calls(code: &str, name: &str, warm: &[&str]) -> Result<String> {
        let names = MachineCode::parse(code, RELOCATIONS).calls(&Row {
            name: name.into(),
            instructions: 1,
            bound: None,
            cold: Vec::new(),
            warm: warm.iter().map(|&name| name.to_owned()).collect(),
        })?;
        Ok(names.into_iter().collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn calls_are_found_direct_through_a_word_and_as_a_jump() {
        let found = calls(CODE, "quick", &[]).unwrap();
        assert_eq!(found, "<A as B>::slow, memcpy, only::unwinding");
        let found = calls(CODE, "tail", &[]).unwrap();
        assert_eq!(found, "<A as B>::slow");
    }

    #[test]
    fn what_is_warm_is_followed() {
        let found = calls(CODE, "tail", &["<A as B>::slow"]).unwrap();
        assert_eq!(found, "<A as B>::slow, only::unwinding");
    }

    #[test]
    fn what_no_jump_leads_to_is_left_out() {
        // Without the word, the other way to it is left.
        let code = CODE.replace("bnd call *0x30(%rip)        # 3008 <_DYNAMIC+0x18>", "nop");
        let found = calls(&code, "quick", &[]).unwrap();
        assert_eq!(found, "<A as B>::slow, memcpy");
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        assert!(calls(CODE, "hidden", &[]).is_err());
        assert!(calls(CODE, "missing", &[]).is_err());
    }
}
