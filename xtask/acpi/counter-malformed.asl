// SPDX-License-Identifier: Apache-2.0 OR MIT
// A counter whose address is a number, and not the two halves of one.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "MALFORM", 1)
{
    External (\_SB.VGEN, DeviceObj)

    Scope (\_SB.VGEN)
    {
        Name (CTRA, 0x0C000000)
    }
}
