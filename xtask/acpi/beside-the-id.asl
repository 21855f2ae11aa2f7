// SPDX-License-Identifier: Apache-2.0 OR MIT
// A counter at the start of a page that also holds the VM generation id.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "BESIDE", 1)
{
    Scope (\_SB)
    {
        Device (VGEN)
        {
            // A method, because the compiler takes a constant for a mistake.
            Method (_HID) { Return ("QEMUVGID") }
            Name (_STA, 0x0F)
            Name (ADDR, Package () { 0x0C000FF8, 0 })
            Name (CTRA, Package () { 0x0C000000, 0 })
        }
    }
}
