// SPDX-License-Identifier: Apache-2.0 OR MIT
// A vmclock whose page the host writes, and a device that notifies of a change when the host raises
// interrupt 5. QEMU's own vmclock has neither a generation counter nor notifications.
DefinitionBlock ("", "SSDT", 2, "SYSGEN", "VMCLOCK", 1)
{
    Scope (\_SB)
    {
        Device (VCLK)
        {
            Name (_HID, "AMZNC10C")
            Name (_CID, "VMCLOCK")
            Name (_STA, 0x0F)
            Name (_CRS, ResourceTemplate ()
            {
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed,
                    Cacheable, ReadOnly,
                    0, 0x0C001000, 0x0C001FFF, 0, 0x1000)
            })
        }

        Device (VGED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, "VMCLOCK")
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
            })
            Method (_EVT, 1, Serialized)
            {
                Notify (VCLK, 0x80)
            }
        }
    }
}
