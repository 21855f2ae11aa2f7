// SPDX-License-Identifier: Apache-2.0 OR MIT
// A counter of the hypervisor's, beside the VM generation id that QEMU provides: where it lies, as
// the lower and the upper half of a physical address.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "COUNTER", 1)
{
    External (\_SB.VGEN, DeviceObj)

    Scope (\_SB.VGEN)
    {
        Name (CTRA, Package () { 0x0C000000, 0 })
    }
}
