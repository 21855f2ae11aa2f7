// SPDX-License-Identifier: Apache-2.0 OR MIT
// A VM generation id whose device has a hardware id alone, as the first posting of a driver knew it,
// with a counter in another page; and a device that notifies of a change when the host raises
// interrupt 5.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "BYHID", 1)
{
    Scope (\_SB)
    {
        Device (VGEN)
        {
            // A method, because the compiler takes a constant for a mistake.
            Method (_HID) { Return ("VMGENID") }
            Name (_STA, 0x0F)
            Name (ADDR, Package () { 0x0C001000, 0 })
            Name (CTRA, Package () { 0x0C000000, 0 })
        }

        Device (VGED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, "VMGENID")
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
            })
            Method (_EVT, 1, Serialized)
            {
                Notify (VGEN, 0x80)
            }
        }
    }
}
