"""Folders that look like /proc and /sys of boards, as their kernels write them."""

from pathlib import Path

GIB_IN_KIB = 1 << 20
Files = dict[str, str]


def write_root(folder: Path, files: Files) -> Path:
    """`folder` with these files in it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def memory(total_gib: int, available_gib: int) -> Files:
    """What /proc/meminfo says first."""
    total, available = total_gib * GIB_IN_KIB, available_gib * GIB_IN_KIB
    return {
        "proc/meminfo": f"MemTotal:       {total} kB\nMemFree:        1024 kB\n"
        f"MemAvailable:   {available} kB\nHugePages_Total:       0\n"
    }


def device_tree(model: str, *compatible: str) -> Files:
    """Strings of a device tree end with a zero byte."""
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in compatible),
    }


def zone(number: int, kind: str, millidegrees: int) -> Files:
    """One thermal zone."""
    folder = f"sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/temp": f"{millidegrees}\n"}


def cooling(number: int, kind: str, state: int) -> Files:
    """One cooling device; 0 is at rest."""
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/cur_state": f"{state}\n"}


# Under-voltage now and a capped frequency now; the bits from 16 on tell of the past.
PI4_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI4 = {
    **device_tree("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", "brcm,bcm2711"),
    **memory(4, 3),
    **zone(0, "cpu-thermal", 61342),
    PI4_THROTTLED: "50003\n",
}
PI5_THROTTLED = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
PI5 = {
    **device_tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"),
    **memory(8, 7),
    **zone(0, "cpu-thermal", 48250),
    **cooling(0, "pwm-fan", 2),
    PI5_THROTTLED: "e0000\n",
}
ORIN = {
    **device_tree(
        "NVIDIA Jetson Orin Nano Developer Kit",
        "nvidia,p3768-0000+p3767-0005",
        "nvidia,p3767-0005",
        "nvidia,tegra234",
    ),
    **memory(8, 6),
    **zone(0, "cpu-thermal", 54000),
    **zone(1, "gpu-thermal", 57500),
    # Zones of parts without power can't be read, or say so.
    **zone(2, "cv0-thermal", -256000),
    "sys/class/thermal/thermal_zone3/temp": "",
    **cooling(0, "pwm-fan", 3),
    **cooling(1, "cpufreq-cpu0", 4),
    **cooling(2, "devfreq-17000000.gpu", 0),
}
THOR = {
    **device_tree(
        "NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008", "nvidia,tegra264"
    ),
    **memory(128, 120),
    **zone(0, "cpu-thermal", 41000),
    "sys/class/hwmon/hwmon1/oc1_event_cnt": "2\n",
}
PC = {
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "ThinkCentre M75q\n",
    **memory(32, 20),
    **zone(0, "acpitz", 16800),
    **zone(1, "x86_pkg_temp", 72000),
    **cooling(0, "Processor", 1),
    # A setting, not a state: it never rests at 0.
    **cooling(1, "TCC Offset", 5),
    "sys/bus/pci/drivers/amdgpu/bind": "",
    "usr/share/vulkan/icd.d/radeon_icd.x86_64.json": "{}",
    "usr/share/vulkan/icd.d/lvp_icd.json": "{}",
    "etc/vulkan/icd.d/nvidia_icd.json": "{}",
}
