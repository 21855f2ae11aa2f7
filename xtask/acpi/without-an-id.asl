// SPDX-License-Identifier: Apache-2.0 OR MIT
// A counter beside a VM generation id that is said to be nowhere.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "NOID", 1)
{
    Scope (\_SB)
    {
        Device (VGEN)
        {
            // A method, because the compiler takes a constant for a mistake.
            Method (_HID) { Return ("QEMUVGID") }
            Name (_STA, 0x0F)
            Name (CTRA, Package () { 0x0C000000, 0 })
        }
    }
}
