// SPDX-License-Identifier: Apache-2.0 OR MIT
// A counter that is not at the start of its page, where programs look for it.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "MISALIGN", 1)
{
    External (\_SB.VGEN, DeviceObj)

    Scope (\_SB.VGEN)
    {
        Name (CTRA, Package () { 0x0C000010, 0 })
    }
}
