# SPDX-License-Identifier: Apache-2.0
"""What setup.py, package.xml and the sources say about each other."""
import ast
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import jepa_ros

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE_XML = ElementTree.parse(REPOSITORY / 'package.xml').getroot()
SOURCES = sorted((REPOSITORY / 'jepa_ros').rglob('*.py'))

# what a module is called where it is declared, when that is not its own name
DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'yaml': 'PyYAML', 'backports': 'backports.zstd', 'cuda': 'cuda-bindings'}
ROSDEP = {'cv2': 'python3-opencv', 'yaml': 'python3-yaml', 'numpy': 'python3-numpy'}
# never required: used where a ROS installation has them
OPTIONAL = {'cv_bridge', 'launch', 'launch_ros', 'ament_index_python'}
NO_WHEEL = {'tf2_msgs'}  # ROS's own, used where an installation has them


@pytest.fixture(scope='module')
def declared():
    """Return what setup.py is called with."""
    script = (
        'import json, setuptools\n'
        'setuptools.setup = lambda **given: print(json.dumps({k: v for k, v in given.items() if k not in '
        '("distclass", "cmdclass")}))\n'
        'exec(compile(open("setup.py").read(), "setup.py", "exec"), {"__file__": "setup.py"})'
    )
    pytest.importorskip('setuptools', reason='setup.py needs setuptools')
    return json.loads(subprocess.check_output([sys.executable, '-c', script], cwd=REPOSITORY, text=True))


def imports():
    """Map every foreign module that jepa_ros imports, at the top or inside a function, to a file that does."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                found.setdefault(name.split('.')[0], path)
    own = sys.stdlib_module_names | {'compression', 'jepa_ros'}  # compression is the standard library's from 3.14 on
    return {name: path for name, path in found.items() if name not in own}


def is_ros(module):
    """Tell whether a module is ROS's own."""
    return module.startswith(('rclpy', 'rosidl')) or module.endswith(('_msgs', '_interfaces', '_srvs'))


def names(requirements):
    """Return the distributions that requirement lines name, normalised."""
    return {re.match(r'[A-Za-z0-9._-]+', line)[0].lower().replace('_', '-') for line in requirements}


def test_one_version_name_and_licence(declared):
    assert declared['name'] == PACKAGE_XML.findtext('name') == 'jepa_ros'
    assert declared['version'] == PACKAGE_XML.findtext('version') == jepa_ros.__version__
    assert declared['description'] == PACKAGE_XML.findtext('description')
    assert declared['license'] == PACKAGE_XML.findtext('license') == 'Apache-2.0'
    assert 'Apache License' in (REPOSITORY / 'LICENSE').read_text()


def test_every_import_is_declared(declared):
    """A module that is imported and nowhere named works here and fails on a user's machine."""
    python = names(sum(declared['extras_require'].values(), declared['install_requires']))
    dependencies = {element.text for element in PACKAGE_XML.findall('exec_depend')}
    for module, path in imports().items():
        where = f'{module}, imported by {path.relative_to(REPOSITORY)}'
        if is_ros(module):
            assert module in dependencies, f'{where}, is not in package.xml'
            wheel = f'ros-{module}'.replace('_', '-')
            assert module in NO_WHEEL or wheel in python, f'{where}, is not among the wheels of setup.py'
        elif module in OPTIONAL:
            assert module in dependencies, f'{where}, is not in package.xml'
        else:
            assert DISTRIBUTIONS.get(module, module).lower() in python, f'{where}, is not in setup.py'
            assert module not in ROSDEP or ROSDEP[module] in dependencies, f'{where}, is not in package.xml'


def test_nothing_is_declared_that_no_file_imports(declared):
    """Both lists of the run time are short because each entry is needed."""
    modules = set(imports())
    for name in declared['install_requires']:
        name = re.match(r'[A-Za-z0-9._-]+', name)[0]
        module = {v: k for k, v in DISTRIBUTIONS.items()}.get(name, name)
        assert module in modules, f'nothing in jepa_ros imports {module}'
    for element in PACKAGE_XML.findall('exec_depend'):
        if is_ros(element.text):
            assert element.text in modules, f'nothing in jepa_ros imports {element.text}'


def test_both_ros_extras_name_the_same_packages(declared):
    kilted, jazzy = (names(declared['extras_require'][extra]) for extra in ['ros-kilted', 'ros-jazzy'])
    assert kilted == jazzy


def test_every_console_script_leads_somewhere(declared):
    """The entry points of pip and the small scripts that colcon and ros2 run use start the same modules."""
    scripts = {path.name for path in (REPOSITORY / 'scripts').iterdir()}
    listed = {Path(path).name for folder, paths in declared['data_files'] if folder.startswith(('lib', 'bin'))
              for path in paths}
    entries = dict(entry.split(' = ') for entry in declared['entry_points']['console_scripts'])
    assert set(entries) == scripts == listed
    for name, target in entries.items():
        module = REPOSITORY / (target.split(':')[0].replace('.', '/') + '.py')
        tree = ast.parse(module.read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == 'main' for node in tree.body), target
        assert "if __name__ == '__main__':" in module.read_text(), f'{target} does not run as python -m'
        assert os.access(REPOSITORY / 'scripts' / name, os.X_OK)


def test_every_source_names_its_licence():
    for path in [*SOURCES, *(REPOSITORY / 'test').rglob('*.py'), *(REPOSITORY / 'launch').rglob('*.py')]:
        assert 'SPDX-License-Identifier: Apache-2.0' in path.read_text().split('"""')[0], path


def test_the_shipped_files_are_small():
    """A clone, a wheel and a robot's disk carry them: bundles at most 30 MB each, recordings at most 3 MB."""
    bundles = [path for path in (REPOSITORY / 'models').iterdir() if path.is_dir()]
    assert bundles
    for folder, limit in [*((bundle, 30e6) for bundle in bundles), (REPOSITORY / 'recordings', 3e6)]:
        size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
        assert 0 < size <= limit, folder
