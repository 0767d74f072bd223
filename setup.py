# SPDX-License-Identifier: Apache-2.0
"""
One setup for colcon build, pip install and pip install -e.

Three things here are not usual, each for one of the three ways:

- colcon puts console scripts into lib/jepa_ros (setup.cfg), pip into bin. The small scripts listed as data files fill the
  other place, so that both `jepa` and `ros2 run jepa_ros ...` are found either way.
- An editable install leaves data files out unless the distribution says it has data.
- pip sets no AMENT_PREFIX_PATH: jepa_ros.pth does, whenever Python starts in that environment.
"""

from pathlib import Path

from setuptools import Distribution, find_packages, setup

PACKAGE = 'jepa_ros'
NODES = ['perception_node', 'controller_node', 'camera_replay_node', 'conveyor_sim_node']
ROS_INTERFACES = [
    'builtin-interfaces', 'diagnostic-msgs', 'geometry-msgs', 'lifecycle-msgs', 'nav-msgs', 'rcl-interfaces',
    'rosgraph-msgs', 'sensor-msgs', 'std-msgs', 'std-srvs',
    'visualization-msgs',
]


class DistributionWithData(Distribution):
    """A distribution whose data files are part of editable installs too."""

    def has_data(self):
        return self.has_data_files()


class InstallData(Distribution().get_command_class('install_data')):
    """Installs the data files, and in a wheel the .pth beside the package."""

    def run(self):
        super().run()
        if self.distribution.get_command_obj('bdist_wheel', create=False):
            self.copy_file(f'resource/{PACKAGE}.pth', self.get_finalized_command('install').install_lib)


def tree(*roots):
    """List every file below some folders as data files of the share directory."""
    folders = {}
    for root in roots:
        for path in sorted(Path(root).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                folders.setdefault(f'share/{PACKAGE}/{path.parent}', []).append(str(path))
    return list(folders.items())


def ros_wheels(rclpy):
    """List the ROS wheels on PyPI; rclpy's version chooses the ROS distribution, the interfaces follow it."""
    return [f'ros-rclpy[fastrtps]{rclpy}', *(f'ros-{name}' for name in ROS_INTERFACES)]


setup(
    name=PACKAGE,
    version='0.1.0',
    description='JEPA latents and predicted futures of a camera topic, on time, for ROS 2 controllers',
    # colcon --symlink-install runs this file from a build folder that holds links to the packages and data files only
    long_description=Path(__file__).resolve().with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='jepa_ros maintainers',
    author_email='maintainers@jepa-ros.example',
    maintainer='jepa_ros maintainers',
    maintainer_email='maintainers@jepa-ros.example',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'lib/{PACKAGE}', [f'scripts/{name}' for name in NODES]),
        ('bin', ['scripts/jepa']),
        *tree('launch', 'config', 'models', 'recordings'),
    ],
    entry_points={
        'console_scripts': [
            'jepa = jepa_ros.cli:main',
            *(f'{name} = jepa_ros.nodes.{name}:main' for name in NODES),
        ],
    },
    install_requires=[
        'numpy>=1.21',
        'opencv-python-headless>=4.8,<6',
        'onnxruntime>=1.16',
        'PyYAML>=5.4',
        'rosbags>=0.10.5,<0.12',
        'lz4>=4',
        'backports.zstd>=1; python_version < "3.14"',
        'rich>=12',
        'av>=11',
    ],
    extras_require={
        'train': [
            'torch>=2.4', 'tensorboard>=2.12', 'onnx>=1.19', 'onnxscript>=0.2', 'safetensors>=0.4', 'matplotlib>=3.6',
        ],
        'openvino': ['openvino>=2024.4,<2027'],
        # on a Jetson TensorRT is part of JetPack
        'tensorrt': ['tensorrt>=10.3; platform_machine == "x86_64"', 'cuda-bindings>=12.6'],
        'sim': ['mujoco>=3.2'],
        'ros-kilted': ros_wheels('>=9,<10'),
        'ros-jazzy': ros_wheels('>=7,<8'),
        'test': [
            'pytest>=7', 'pytest-timeout>=2.2', 'hypothesis>=6.80', 'onnx>=1.19', 'mcap>=1.1', 'mcap-ros2-support>=0.5',
            'psutil>=5.9', 'ruff>=0.6', 'transformers>=4.53,<6', 'webdataset>=0.2.100,<2',
        ],
    },
    distclass=DistributionWithData,
    cmdclass={'install_data': InstallData},
    zip_safe=False,
)
