"""The packages that have free photos in them, and which of their pictures are photos."""

from dataclasses import dataclass

from tools.fetch.registry import Registry, bare_name


@dataclass(frozen=True, kw_only=True)
class Package:
    """Where a package's photos lie.

    Attributes:
        registry: 'apt', 'npm' or 'pip'.
        name: The package; npm and pip packages are pinned as NAME@VERSION and NAME==VERSION.
        folder: Folder inside the unpacked package, removed from the photos' names.
        photos: Patterns below that folder.
        without: File or folder names to leave out: drawings, renders, screenshots, crops of other photos, flat colours,
            pictures of doubtful origin.
        licence: In place of what the package's metadata say, where a file beside the photos knows better.
    """

    registry: Registry
    name: str
    folder: str
    photos: tuple[str, ...]
    without: tuple[str, ...] = ()
    licence: str = ""

    @property
    def slug(self) -> str:
        """The bare name, without scope and version."""
        return bare_name(self.name)


# Cleanest first: of two copies of a photo the first is kept.
PACKAGES = (
    Package(
        registry="pip",
        name="vc2-conformance-data==1.0.0",
        folder="vc2_conformance_data",
        photos=("berries.raw", "kingswood.raw", "trees.raw"),
    ),
    Package(
        registry="apt", name="libjxl-testdata", folder="usr/share/libjxl-testdata/jxl", photos=("flower/flower.png",)
    ),
    Package(
        registry="npm",
        name="uikit@3.25.29",
        folder="package/tests/images",
        photos=("*.jpg",),
        without=("dark.jpg", "light.jpg", "size-h.jpg", *(f"slider{i}.jpg" for i in range(1, 6))),
    ),
    Package(
        registry="apt",
        name="lxqt-themes",
        folder="usr/share/lxqt/wallpapers",
        photos=("*.png", "*.jpg"),
        without=("*origami*", "*logo*", "*plasma*", "*waves*", "*triangles*", "simple_blue*"),
        licence="CC-BY-SA-3.0",
    ),
    Package(
        registry="apt",
        name="lomiri-wallpapers-16.04",
        folder="usr/share/backgrounds",
        photos=("*.jpg",),
        without=("umang_*", "analogpattern_*"),
    ),
    Package(registry="apt", name="lomiri-wallpapers-20.04", folder="usr/share/backgrounds", photos=("Kleiber_*.jpg",)),
    Package(registry="apt", name="mate-backgrounds", folder="usr/share/backgrounds/mate/nature", photos=("*.jpg",)),
    Package(
        registry="apt",
        name="plasma-workspace-wallpapers",
        folder="usr/share/wallpapers",
        photos=("*/contents/images/2560x1600.jpg",),
        without=("Autumn",),
    ),
    Package(registry="apt", name="palapeli-data", folder="usr/share/palapeli/collection", photos=("*.jpg",)),
    Package(registry="npm", name="tabler-ui@0.0.34", folder="package/dist/demo/photos", photos=("*-1500.jpg",)),
    Package(
        registry="npm",
        name="now-ui-kit@1.3.0",
        folder="package/assets/img",
        photos=("bg*.jpg", "header.jpg", "login.jpg"),
    ),
    Package(
        registry="npm",
        name="paper-kit-2@2.1.0",
        folder="package/assets/img",
        photos=("*.jpg", "faces/*.jpg"),
    ),
    Package(
        registry="npm",
        name="material-kit@2.0.4",
        folder="package/assets/img",
        photos=("*.jpg", "examples/*.jpg", "faces/card-*.jpg", "faces/camp.jpg", "faces/avatar.jpg"),
        without=("landing.jpg", "profile.jpg"),
    ),
    Package(
        registry="npm",
        name="material-dashboard@3.1.0",
        folder="package/assets/img",
        photos=("*.jpg", "products/*.jpg"),
        without=("bg-*", "home-decor-*", "office-dark.jpg", "vr-bg.jpg", "drake.jpg", "product-7-min.jpg"),
    ),
    Package(
        registry="apt",
        name="krank",
        folder="usr/share/games/krank/levels/unera-backgrounds",
        photos=("*.jpg",),
        licence="public domain",
    ),
    Package(
        registry="npm",
        name="@creative-tim-official/argon-dashboard-free@1.2.0",
        folder="package/assets/img/theme",
        photos=("profile-cover.jpg", "team-*.jpg"),
    ),
    Package(
        registry="npm",
        name="soft-ui-design-system@1.0.4",
        folder="package/assets/img",
        photos=("anastasia.jpg", "annie-spratt.jpg", "brooke.jpg", "marie.jpg", "nastuh.jpg"),
    ),
    Package(
        registry="npm",
        name="startbootstrap-creative@7.0.7",
        folder="package/dist/assets/img",
        photos=("bg-masthead.jpg", "portfolio/fullsize/*.jpg"),
    ),
    Package(registry="npm", name="admin-lte@2.4.18", folder="package/dist/img", photos=("photo3.jpg",)),
    # Seen from the air. What is soft, recoloured or composed of the same few pieces is not named.
    Package(
        registry="apt",
        name="flightgear-data-base",
        folder="usr/share/games/flightgear/Textures/Terrain",
        photos=tuple(
            f"{name}.png"
            for name in (
                "18th_century_city Town1 australia-commercial australia-country-golf australia-greenspace "
                "australia_suburbs california-drycrop2 california-forest california-golf california-industry "
                "california-port california-rock california-town california-town2 carpark cemetery cerrado-crop2 "
                "city1 countryside2.green countryside3.green deciduous-hires forest golfcourse1-autumn "
                "industrial-alt irrcrop latin_american_city1 packice1 pantanal rock rock_grain01 town-europe "
                "town-middle-east uk_countryside1 uk_countryside2"
            ).split()
        ),
    ),
)

HELD_OUT = frozenset(
    {
        "uikit/photo3",
        "lxqt-themes/flowers",
        "palapeli-data/castle-maintenon",
        "tabler-ui/christoph-bengtsson-lissalde-80291-1500",
        "tabler-ui/oskar-vertetics-53043-1500",
        "paper-kit-2/soroush-karimi",
        "paper-kit-2/faces-kaci-baum-2",
        "material-dashboard/meeting",
    }
)
